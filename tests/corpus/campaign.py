"""`python -m tests.corpus.campaign`: which of the operations that training calls are held.

1. Each program of the corpus trains in each way under a recorder: the list of operations, by
   overload and class of type, is written to operations.json with `--record`.
2. Each of them is made wrong at the device's own key, in a forked child: all results 5 % off, and
   apart from that one element off. It is covered when a check of the quick or the standard profile
   fails. Results are kept in build/coverage/, so that a campaign goes on where it was stopped.

Views, allocations and random draws are listed apart: such faults say nothing about them.
"""

import argparse
import importlib
import json
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch

from probes.catalog import CATALOG
from probes.contract import HEAVY, ProbeSpec
from probes.faults.inject import kernels
from tests.corpus import training
from tests.corpus.recorder import Recorder, type_class

HERE: Final = Path(__file__).parent
LIST: Final = HERE / "operations.json"
KEPT: Final = HERE.parents[1] / "build" / "coverage"
DEVICE: Final = "cpu"
SPOILS: Final = ("scaled", "element")

#: For one child: all device probes take a second or two.
DEADLINE_S: Final = 60.0

Operations = dict[str, list[str]]  # "mm.default float32" -> programs that call it


def record() -> Operations:
    """The operations that the corpus calls on this device, each with its programs."""
    found: dict[str, set[str]] = {}
    before = torch.autograd.is_multithreading_enabled()
    torch.autograd.set_multithreading_enabled(False)
    try:
        for program in training.PROGRAMS:
            for way in training.WAYS:
                with Recorder() as recorder:
                    training.train(program, way, DEVICE)
                for operation, kind in recorder.calls:
                    found.setdefault(f"{operation} {kind}", set()).add(program)
    finally:
        torch.autograd.set_multithreading_enabled(before)
    return {name: sorted(programs) for name, programs in sorted(found.items())}


def category(operation: str) -> str:
    """What an operation is: `computes`, or a `view`, an `allocation` or a `draw`."""
    name, _, overload = operation.partition(" ")[0].partition(".")
    function = getattr(getattr(torch.ops.aten, name), overload)
    returns = [each.alias_info for each in function._schema.returns]
    if any(alias is not None and not alias.is_write for alias in returns):
        return "view"
    if name.startswith(("empty", "new_empty")):
        return "allocation"
    return "draw" if torch.Tag.nondeterministic_seeded in function.tags else "computes"


def _spoil(tensor: torch.Tensor, spoil: str) -> None:
    """Make a tensor wrong in place: all of it, or its last element."""
    where = tensor if spoil == "scaled" else tensor.reshape(-1)[-1:]
    if tensor.dtype == torch.bool:
        changed = where.logical_not()
    elif tensor.is_floating_point() or tensor.is_complex():
        size = tensor.abs().nan_to_num(0, 0, 0).max()
        if spoil == "scaled":
            changed = where * 1.05 if size > 0 else where + 1  # 5 % of nothing is nothing
        else:
            changed = where + 0.05 * torch.clamp(size, min=0.1)
    else:
        changed = where + 1
    if spoil == "scaled" or tensor.is_contiguous():
        (tensor if spoil == "scaled" else tensor.view(-1)[-1:]).copy_(changed)
        return
    last = tuple(size - 1 for size in tensor.shape)
    tensor[last] = changed[0]


def inject(operation: str, spoil: str) -> None:
    """Make one overload wrong for one class of types, in this process for good."""
    overload, kind = operation.split(" ")
    inside: list[bool] = []

    def make(original: Any) -> Any:
        def spoiled(keys: Any, *args: Any, **kwargs: Any) -> Any:
            outputs = original(keys, *args, **kwargs)
            if inside or type_class(args, kwargs, outputs) != kind:
                return outputs
            inside.append(True)
            try:
                listed = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
                if outputs is None and args:  # writes its first operands: the foreach operations
                    listed = args[0] if isinstance(args[0], (tuple, list)) else (args[0],)
                for each in listed:
                    if isinstance(each, torch.Tensor) and each.numel():
                        _spoil(each, spoil)
            finally:
                inside.pop()
            return outputs

        return spoiled

    kernels.replace_kernels((overload,), DEVICE, make)


def _specs(*, heavy: bool) -> list[ProbeSpec]:
    """The device probes of the quick profile, or those that standard adds."""
    return [
        spec
        for spec in CATALOG
        if spec.needs == "device"
        and spec.name != "cuda_available"
        and spec.profile != "deep"
        and (spec.profile in HEAVY) == heavy
    ]


def _caught(specs: list[ProbeSpec]) -> str:
    """The first check that fails, or what a probe raised; empty when all hold."""
    for spec in specs:
        probe = importlib.import_module(spec.module)
        try:
            findings = list(probe.judge(probe.observe(DEVICE)))
        except Exception as error:  # noqa: BLE001 - whatever it raises is a failure of the probe
            return f"{spec.name}.completes ({type(error).__name__})"
        for finding in findings:
            if finding.status == "fail":
                return str(finding.id)
    return ""


def _child(operation: str, spoil: str, pipe: int) -> None:
    """Inject, run the probes, tell what failed: quick first, standard where that finds nothing."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    inject(operation, spoil)
    found = {"quick": _caught(_specs(heavy=False)), "standard": ""}
    found["standard"] = found["quick"] or _caught(_specs(heavy=True))
    os.write(pipe, json.dumps(found).encode())


def trial(operation: str, spoil: str) -> dict[str, str]:
    """Profile -> the check that caught the fault, in a forked child with a deadline."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            _child(operation, spoil, write)
        finally:
            os._exit(0)
    os.close(write)
    text, deadline = b"", time.monotonic() + DEADLINE_S
    while select.select([read], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(read, 65536)
        if not part:
            break
        text += part
    else:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(read)
    if not text:
        return dict.fromkeys(("quick", "standard"), "the process died or hung")
    found: dict[str, str] = json.loads(text)
    return found


def results(operations: Operations) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Every operation that computes with each fault; what is kept is not run again."""
    KEPT.mkdir(parents=True, exist_ok=True)
    file = KEPT / f"{torch.__version__}.jsonl"
    known: dict[tuple[str, str], dict[str, str]] = {}
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            kept = json.loads(line)
            known[kept["operation"], kept["spoil"]] = kept["found"]
    for spec in CATALOG:
        importlib.import_module(spec.module)
        for module in spec.preload:
            importlib.import_module(module)
    for operation in operations:
        if category(operation) != "computes":
            continue
        for spoil in SPOILS:
            found = known.get((operation, spoil))
            if found is None:
                found = trial(operation, spoil)
                entry = {"operation": operation, "spoil": spoil, "found": found}
                with file.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(entry) + "\n")
            yield operation, spoil, found


def summary(operations: Operations) -> Iterator[str]:
    """Shares by profile and by program, then what is not covered."""
    held: dict[str, dict[str, bool]] = {}
    for operation, _spoil_name, found in results(operations):
        for profile, check in found.items():
            by_profile = held.setdefault(operation, {})
            by_profile[profile] = by_profile.get(profile, True) and bool(check)
    yield f"torch {torch.__version__}, {len(operations)} operations (overload and class of type):"
    kinds = [category(operation) for operation in operations]
    for kind in ("computes", "view", "allocation", "draw"):
        yield f"  {kinds.count(kind)} {kind}"
    for profile in ("quick", "standard"):
        covered = sum(each[profile] for each in held.values())
        yield f"{profile}: {covered} of {len(held)} covered ({100 * covered // len(held)} %)"
    for program in training.PROGRAMS:
        own = [each for name, each in held.items() if program in operations[name]]
        shares = (sum(each[p] for each in own) for p in ("quick", "standard"))
        yield "  {}: {} and {} of {}".format(program, *shares, len(own))
    missing = [name for name, each in held.items() if not each["standard"]]
    yield f"not covered by any profile ({len(missing)}): {', '.join(missing) or 'none'}"
    later = [name for name, each in held.items() if each["standard"] and not each["quick"]]
    yield f"not in quick ({len(later)}): {', '.join(later) or 'none'}"


def document(operations: Operations) -> str:
    """The text of operations.json, a line for each operation."""
    lines = [f"  {json.dumps(name)}: {json.dumps(own)}" for name, own in operations.items()]
    version = json.dumps(torch.__version__.partition("+")[0])
    return f'{{\n "torch": {version},\n "operations": {{\n' + ",\n".join(lines) + "\n }\n}\n"


def main() -> int:
    """Record the list, or run the campaign over the one that is kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus.campaign", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write operations.json and stop")
    if parser.parse_args().record:
        LIST.write_text(document(record()), encoding="utf-8")
        return 0
    operations: Operations = json.loads(LIST.read_text(encoding="utf-8"))["operations"]
    for line in summary(operations):
        sys.stdout.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
