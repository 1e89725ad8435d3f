"""What the probes promise, read from the catalogue and from their source: nothing is imported."""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from probes import catalog
from probes.catalog import BY_NAME, CATALOG
from probes.contract import ProbeSpec
from validator.nearest import nearest

_ROOT: Final = Path(catalog.__file__).parent.parent  # the folder that holds the package `probes`

_PROVEN: Final = Path(catalog.__file__).with_name("proven.json")

#: The parts of a probe's docstring after its first line, in order.
_PARTS: Final = ("Why", "Fix", "Ref")


class UnknownNameError(Exception):
    """No probe and no check has that name; the text says which one is nearest."""


@dataclass(frozen=True)
class Limit:
    """A threshold of a probe: `probes.<probe>.limits.<name>` in the settings."""

    name: str
    type: str
    default: str
    about: str


@dataclass(frozen=True)
class Explanation:
    """A probe's docstring, taken apart."""

    promise: str
    why: str
    fix: str
    references: tuple[str, ...]
    limits: tuple[Limit, ...]


def read(spec: ProbeSpec) -> Explanation:
    """Read a probe's docstring and limits from its source."""
    folder = _ROOT.joinpath(*spec.module.split(".")[:-1])
    docstring = ast.get_docstring(_tree(folder / "__init__.py")) or ""
    promise, _, rest = docstring.partition("\n")
    parts = dict.fromkeys(_PARTS, "")
    for part, text in re.findall(r"^(\w+): (.*?)(?=^\w+: |\Z)", rest, re.MULTILINE | re.DOTALL):
        parts[part] = inspect.cleandoc(text)
    return Explanation(
        promise=promise.strip(),
        why=" ".join(parts["Why"].split()),
        fix=" ".join(parts["Fix"].split()),
        references=tuple(parts["Ref"].split()),
        limits=tuple(_limits(folder / "spec.py")) if spec.limits is not None else (),
    )


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _limits(file: Path) -> Iterator[Limit]:
    """The fields of `class Limits`, with the comment above each or after it."""
    source = file.read_text(encoding="utf-8")
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if not (isinstance(node, ast.ClassDef) and node.name == "Limits"):
            continue
        for field in node.body:
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                yield Limit(
                    name=field.target.id,
                    type=ast.unparse(field.annotation),
                    default=ast.unparse(field.value) if field.value else "required",
                    about=_comment(lines, field),
                )


def _comment(lines: list[str], field: ast.AnnAssign) -> str:
    """The `#` comment at the end of a field's line, or the `#:` lines above it."""
    last = lines[(field.end_lineno or field.lineno) - 1]
    # A column of `ast` counts bytes.
    after = last.encode()[field.end_col_offset or 0 :].decode().strip()
    if after.startswith("#"):
        return after.lstrip("#: ")
    above: list[str] = []
    for line in reversed(lines[: field.lineno - 1]):
        if not line.strip().startswith("#:"):
            break
        above.insert(0, line.strip().removeprefix("#:").strip())
    return " ".join(above)


def find(name: str) -> tuple[ProbeSpec, str | None]:
    """The probe, and the check where `name` is `probe.check`.

    Raises:
        UnknownNameError: with the nearest name.
    """
    probe, dot, check = name.partition(".")
    spec = BY_NAME.get(probe)
    if spec is None:
        whole = [f"{one.name}.{each}" for one in CATALOG for each in one.promises]
        raise UnknownNameError(
            f"no probe is named {probe!r}{nearest(name, whole if dot else BY_NAME)}"
        )
    if not dot:
        return spec, None
    if check not in spec.promises:
        raise UnknownNameError(
            f"probe {probe!r} has no check {check!r}{nearest(check, spec.promises, f'{probe}.')}"
        )
    return spec, check


def hardware_of_recordings(check_id: str) -> tuple[str, ...]:
    """The hardware that a check has passed on in a recording, each with its type of back-end."""
    table = json.loads(_PROVEN.read_text(encoding="utf-8"))
    return tuple(
        f"{kind}: {', '.join(checks[check_id]['on'])}"
        for kind, checks in table.items()
        if check_id in checks
    )


def list_entry(spec: ProbeSpec) -> dict[str, Any]:
    """One probe as `list --output json` tells it."""
    return {
        "probe": spec.name,
        "profile": spec.profile,
        "needs": spec.needs,
        "needs_torch": spec.needs_torch,
        "timeout_s": spec.timeout_s,
        "interval_s": spec.interval_s,
        "memory_bytes": spec.memory_bytes,
        "optional_memory_bytes": spec.optional_memory_bytes,
        "alone": spec.alone,
        "memory_measured": spec.memory_measured,
        "promise": read(spec).promise,
        "checks": {f"{spec.name}.{check}": text for check, text in spec.promises.items()},
    }
