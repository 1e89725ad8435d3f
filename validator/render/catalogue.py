"""The probes and what they promise, as text."""

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from probes.catalog import CATALOG
from probes.contract import MIB, ProbeSpec
from validator import profiles
from validator.render import explain
from validator.render.console import table, text_of

_HEADS = ("probe", "profile", "needs", "timeout", "every", "checks")


#: What needs no recording.
_BY_TESTS = "cpu-x86_64: by the tests of every change, where it applies to a CPU"


def render_list(console: Console) -> str:
    """A table of the probes, each with its promise below."""
    rows = [
        (
            spec.name,
            spec.profile,
            spec.needs,
            duration(spec.timeout_s),
            duration(spec.interval_s),
            f"{len(spec.promises):>6}",
        )
        for spec in CATALOG
    ]
    head, rule, *lines = table(console, _HEADS, rows)
    parts: list[RenderableType] = [head, rule]
    for line, spec in zip(lines, CATALOG, strict=True):
        promise = Text(explain.read(spec).promise, style="dim")
        parts += [line, Padding(promise, (0, 0, 0, 2))]
    if told := profiles.notes():
        parts += ["", Padding(Text(told), 0)]  # wrapped between words
    return text_of(console, *parts)


def render_explanation(spec: ProbeSpec, check: str | None, console: Console) -> str:
    """A probe, or one check of it, for somebody who saw it fail."""
    read = explain.read(spec)
    if check is None:
        parts = [*_head(spec.name, read.promise)]
    else:
        parts = [*_head(f"{spec.name}.{check}", spec.promises[check])]
        parts += [*_section("Probe", [f"{spec.name}: {read.promise}"])]
    parts += _section("Why", [read.why])
    parts += _section("Fix", [read.fix])
    parts += _section("References", read.references)
    parts += _section("Runs", [_runs(spec)])
    parts += _section("If it fails", [_retries(spec)])
    if check is not None:
        recorded = explain.hardware_of_recordings(f"{spec.name}.{check}")
        parts += _section("Proven on", [*recorded, _BY_TESTS])
    if check is None:
        limits = [
            f"probes.{spec.name}.limits.{limit.name}: {limit.type} = {limit.default}\n{limit.about}"
            for limit in read.limits
        ]
        parts += _section("Limits", limits)
        promises = [f"{spec.name}.{name}\n{text}" for name, text in spec.promises.items()]
        parts += _section("Checks", promises)
    return text_of(console, *parts)


def _head(name: str, promise: str) -> list[RenderableType]:
    return [Text(name, style="bold"), Padding(Text(promise), (0, 0, 0, 2))]


def _section(title: str, paragraphs: tuple[str, ...] | list[str]) -> list[RenderableType]:
    """A title and indented paragraphs; what comes after a paragraph's first line is deeper."""
    told = [text for text in paragraphs if text]
    if not told:
        return []
    parts: list[RenderableType] = ["", Text(title, style="bold")]
    for text in told:
        first, *rest = text.split("\n")
        parts.append(Padding(Text(first), (0, 0, 0, 2)))
        parts += [Padding(Text(line), (0, 0, 0, 6)) for line in rest if line]
    return parts


def _runs(spec: ProbeSpec) -> str:
    where = "on each device" if spec.needs == "device" else "once a node"
    where += "" if spec.needs_torch else ", without torch"
    above = profiles.same_above(spec)
    same = f" ({above} hold{'' if ' and ' in above else 's'} nothing more yet)" if above else ""
    memory = f", at most {spec.memory_bytes // MIB} MiB on a GPU" if spec.memory_bytes else ""
    if spec.optional_memory_bytes:
        more = spec.optional_memory_bytes // MIB
        memory += f", up to {more} MiB more where twice that is free"
    memory += " beside the memory that it tests, with no other probe on it" if spec.alone else ""
    memory += f" ({spec.memory_measured})" if spec.memory_measured else ""
    return (
        f"in profile {spec.profile} and above{same}, {where}, every {duration(spec.interval_s)}, "
        f"at most {duration(spec.timeout_s)}{memory}"
    )


def _retries(spec: ProbeSpec) -> str:
    """What is made of a check that fails, in the same run."""
    where = "twice"
    if spec.needs == "device" and not spec.about_node:
        where = "twice on the device and once on the CPU, and held against the run's other devices"
    return f"the failed checks are made again, {where}: the finding's `triage`; they stay failures"


def duration(seconds: float) -> str:
    """Seconds as the settings read them: 90s, 5m, 1h."""
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"
