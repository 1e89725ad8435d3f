"""`python -m tests.corpus.campaign`: which of the operations that training calls are held.

1. Each program of the corpus trains in each way under a recorder: the operations that it calls, by
   overload and class of type, and those of them that it asks for a gradient, are written to
   operations.<device>.json with `--record`.
2. Each of them is made wrong at the device's own key in every way that can be said of it
   (tests/corpus/spoils.py), in a forked child. It is covered when each time a check of the quick
   or the standard profile fails, or the process crashes. A child that was late, killed from outside
   or could not make the fault has caught nothing. Results are kept in build/coverage/, so that a
   campaign goes on where it was stopped; `--again` tries anew what was not caught, `--again quick`
   what quick has not. What was caught stays so until that file is removed, whatever is changed in
   the probes.
3. Before all that, the same checks run with nothing wrong: what fails then would catch everything;
   and once more with each operation watched: a fault is tried with the probes that call it.

Ends with 1 when something is neither covered nor exempt (tests/corpus/exempt.json).
"""

import argparse
import json
import os
import random
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch

from tests.corpus import libraries, training, trials
from tests.corpus.children import Children
from tests.corpus.recorder import Recorder, watch_gradients
from tests.corpus.spoils import category, spoils
from tests.corpus.trials import PROFILES, SOUND

HERE: Final = Path(__file__).parent
KEPT: Final = HERE.parents[1] / "build" / "coverage"
EXEMPT: Final = HERE / "exempt.json"
#: For one child: all device probes take ten seconds on one core.
DEADLINE_S: Final = 180.0
#: For the child that trains all programs in all ways.
_RECORD_S: Final = 3600.0


@dataclass(frozen=True)
class Operations:
    """What the corpus calls on a device: `mm.default float32` -> the programs that call it."""

    programs: dict[str, list[str]]
    gradients: frozenset[str]  # those that are asked for a gradient
    torch: str  # version

    def faults(self) -> Iterator[tuple[str, str]]:
        """Each operation with each way to make it wrong."""
        for operation in self.programs:
            for spoil in spoils(operation, gradient=operation in self.gradients):
                yield operation, spoil

    def document(self) -> str:
        """The text of its file, a line for each operation."""
        lines = [f"  {json.dumps(name)}: {json.dumps(own)}" for name, own in self.programs.items()]
        gradients = [f"  {json.dumps(name)}" for name in sorted(self.gradients)]
        return (
            f'{{\n "torch": {json.dumps(self.torch)},\n "operations": {{\n'
            + ",\n".join(lines)
            + '\n },\n "gradients": [\n'
            + ",\n".join(gradients)
            + "\n ]\n}\n"
        )


def file(device: str) -> Path:
    """Where the operations of a device's type are kept."""
    return HERE / f"operations.{torch.device(device).type}.json"


def load(device: str) -> Operations:
    """The operations that are kept for a device's type."""
    return parse(file(device).read_text(encoding="utf-8"))


def parse(document: str) -> Operations:
    """The operations of a document."""
    kept = json.loads(document)
    return Operations(kept["operations"], frozenset(kept["gradients"]), kept["torch"])


def record(device: str) -> Operations:
    """The operations that the corpus calls on this device; it runs in a child."""
    with closing(Children(1, _RECORD_S)) as children:
        children.start("record", lambda: _recorded(device).document())
        ((_, text),) = children.results()
    return parse(text)


def _recorded(device: str) -> Operations:
    programs: dict[str, list[str]] = {}
    torch.set_num_threads(1)  # the models are tiny
    torch.autograd.set_multithreading_enabled(False)  # so that the recorder sees the backward
    for program in training.PROGRAMS:
        with Recorder() as recorder:
            _train(program, device)
        for operation, kind in recorder.calls:
            programs.setdefault(f"{operation} {kind}", []).append(program)
    gradients = watch_gradients({name.partition(" ")[0] for name in programs}, device)
    for program in training.PROGRAMS:
        _train(program, device)
    version = torch.__version__.partition("+")[0]
    return Operations(dict(sorted(programs.items())), frozenset(gradients & set(programs)), version)


def _train(program: str, device: str) -> None:
    for way in training.WAYS:
        training.train(program, way, device)


Found = dict[tuple[str, str], dict[str, str]]


def results(
    operations: Operations, device: str, jobs: int, *, again: str = "", every: int = 1
) -> Found:
    """Every operation with each of its faults; what is kept is not run again.

    Args:
        operations: those of the list.
        device: where they run.
        jobs: children side by side.
        again: a profile; what it has not caught is tried anew.
        every: of that many faults, in a fixed random order, one is run: a sample.
    """
    KEPT.mkdir(parents=True, exist_ok=True)
    kept = KEPT / f"{torch.__version__}.{torch.device(device).type}.jsonl"
    found = _read(kept, again=again)
    trials.import_probes()
    faults = list(operations.faults())
    random.Random(0).shuffle(faults)  # noqa: S311 - a sample that is the same each time
    faults = sorted(faults[::every])

    def keep(fault: tuple[str, str], text: str) -> None:
        how = "the process crashed" if fault in children.crashed else ""
        found[fault] = json.loads(text) if text else dict.fromkeys(PROFILES, how)
        entry = {"operation": fault[0], "spoil": fault[1], "found": found[fault]}
        with kept.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")

    with closing(Children(jobs, DEADLINE_S)) as children:
        children.start(SOUND, partial(trials.trial, *SOUND, device))
        ((_, text),) = children.results()
        if not text or any(json.loads(text).values()):
            raise RuntimeError(f"checks fail with nothing wrong: {text or 'no answer'}")
        called = _called(operations, device, children)
        for fault in faults:
            if fault not in found:
                probes = trials.callers(called, fault[0])
                children.start(fault, partial(trials.trial, *fault, device, probes))
                for ended, text in children.ended():
                    keep(ended, text)
        for ended, text in children.results():
            keep(ended, text)
    return {fault: found[fault] for fault in faults}


def _called(operations: Operations, device: str, children: Children) -> dict[str, str]:
    """Probe -> the operations that it calls, as JSON: one that does not call it is not run."""
    overloads = {operation.partition(" ")[0] for operation in operations.programs}
    for spec in trials.specs(heavy=False) + trials.specs(heavy=True):
        children.start(spec.name, partial(trials.calls, spec, overloads, device))
    called = dict(children.results())
    if silent := sorted(name for name, text in called.items() if not text):
        raise RuntimeError(f"what these probes call cannot be told: {', '.join(silent)}")
    return called


def _read(kept: Path, *, again: str) -> Found:
    """The results that are kept; with `again` only of what that profile caught."""
    found: Found = {}
    for line in kept.read_text(encoding="utf-8").splitlines() if kept.exists() else ():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # the campaign was stopped while it wrote
            continue
        found[entry["operation"], entry["spoil"]] = entry["found"]
    return {key: each for key, each in found.items() if not again or each[again]}


def exempt() -> dict[tuple[str, str], str]:
    """The faults that no check has to catch, each with its reason."""
    listed = json.loads(EXEMPT.read_text(encoding="utf-8"))
    return {(name, spoil): why for name, own in listed.items() for spoil, why in own.items()}


def summary(operations: Operations, found: Found) -> Iterator[str]:
    """Shares by profile, by fault and by program, then what is not covered."""
    left_out = exempt()
    held: dict[str, dict[str, bool]] = {}
    for (operation, spoil), by_profile in found.items():
        for profile, check in by_profile.items():
            so_far = held.setdefault(operation, dict.fromkeys(PROFILES, True))
            so_far[profile] &= bool(check) or (operation, spoil) in left_out
    kinds = [category(operation) for operation in held]
    told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    yield f"torch {torch.__version__}: {len(held)} operations (overload and class of type): {told}"
    yield f"{len(found)} faults, {len(left_out)} of them exempt"
    for profile in PROFILES:
        covered = sum(each[profile] for each in held.values())
        yield f"{profile}: {covered} of {len(held)} covered ({100 * covered / len(held):.0f} %)"
        for spoil in sorted({spoil for _, spoil in found}):
            own = [each[profile] for (_, its), each in found.items() if its == spoil]
            yield f"  {spoil}: {sum(map(bool, own))} of {len(own)} caught"
    for program in sorted({each for own in operations.programs.values() for each in own}):
        called = [each for name, each in held.items() if program in operations.programs[name]]
        shares = (sum(each[profile] for each in called) for profile in PROFILES)
        yield "  {}: {} and {} of {}".format(program, *shares, len(called))
    missing = sorted(not_covered(found))
    yield f"not covered by any profile ({len(missing)} faults):"
    yield from (f"  {operation}: {spoil}" for operation, spoil in missing)
    later = [name for name, each in held.items() if each["standard"] and not each["quick"]]
    yield f"not in quick ({len(later)}): {', '.join(later) or 'none'}"


def not_covered(found: Found) -> list[tuple[str, str]]:
    """The faults that neither profile caught, and that are not exempt."""
    open_ones = [fault for fault, each in found.items() if not each["standard"]]
    return [fault for fault in open_ones if fault not in exempt()]


def main() -> int:
    """Record the list, or run the campaign over the one that is kept."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.corpus.campaign",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--record", action="store_true", help="write the list and stop")
    parser.add_argument("--ours", action="store_true", help="record our own programs alone")
    parser.add_argument(
        "--again",
        nargs="?",
        const="standard",
        default="",
        choices=PROFILES,
        help="try anew what that profile has not caught; default: standard",
    )
    parser.add_argument("--every", type=int, default=1, help="run one fault of so many: a sample")
    parser.add_argument("--device", default="cpu", help="where to run; default: cpu")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trials side by side")
    asked = parser.parse_args()
    if asked.record:
        if (missing := libraries.missing()) and not asked.ours:
            parser.error(f"the list would lack what these call: {', '.join(missing)}; see --ours")
        file(asked.device).write_text(record(asked.device).document(), encoding="utf-8")
        return 0
    operations = load(asked.device)
    found = results(operations, asked.device, asked.jobs, again=asked.again, every=asked.every)
    for line in summary(operations, found):
        sys.stdout.write(f"{line}\n")
    return 1 if not_covered(found) else 0


if __name__ == "__main__":
    sys.exit(main())
