"""Reports made by hand, for tests of what is made of them."""

import json
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from probes.contract import Failure, Finding, Measurement, Pattern, ProbeSpec, Result, Triage, Try
from validator.engine.plan import make_plan
from validator.report import CPU, Device, Environment, NotRun, Report, make_report, to_json
from validator.service import fresh
from validator.settings.model import Settings

#: The probes of a plan that asks for nothing in particular.
QUICK = make_plan(Settings(), "cli").specs

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)

LOST_BITS = (
    "matmul: 12 of 4096 elements wrong, first at [0, 3], worst at [5, 7]: expected 12.0, "
    "observed 13.0 (bits differ by 0x00080000)"
)

RETRIES = (
    "persistent: failed again in 2 of 2 retries; passes on the CPU and 1 other of its kind: device"
)

PATTERN = Pattern(
    elements=4096,
    mismatches=12,
    first=((0, 3), (1, 3), (2, 3)),
    last=((9, 3), (10, 3), (11, 3)),
    common_index=(None, 3),
    stride=64,
    regular=True,
    bits_any="0x00080000",
    bits_all="0x00080000",
    second_read="same",
)
TRIAGE = Triage(
    kind="persistent",
    retries=2,
    failures=2,
    location="device",
    passes_on=("cpu", "cuda:1"),
    tries=tuple(Try(ended_s=n, temperature_c=61 + n, failed=True) for n in range(3)),
)


def result(probe: str, device: str = "cpu", status: str = "pass", **fields: Any) -> Result:
    """One result; what is not given is that of a probe that passed."""
    values: dict[str, Any] = {
        "probe": probe,
        "device": device,
        "status": status,
        "reason": "ok" if status == "pass" else "check_failed",
        "summary": "12 checks passed",
        "started_at": STARTED,
        "duration_s": 0.25,
    }
    return Result(**{**values, **fields})


def report(results: Sequence[Result], not_run: Sequence[NotRun] = (), **fields: Any) -> Report:
    """A report of these results."""
    values: dict[str, Any] = {
        "run_id": "r1",
        "trigger": "cli",
        "profile": "quick",
        "started_at": STARTED,
        "finished_at": STARTED,
        "duration_s": 3.21,
        "environment": Environment(torch="2.13.0+cpu", numpy="2.4.6", python="3.11.7"),
        "devices": (CPU,),
    }
    return make_report(results=results, not_run=not_run, **{**values, **fields})


def sound() -> Report:
    """What a healthy machine without a GPU gives."""
    skip = result("cuda_available", status="skip", reason="no_device", summary="no GPU is present")
    return report([result("torch_version"), skip, result("autograd")])


def sick() -> Report:
    """Everything that can go wrong, on two GPUs."""
    gpus = tuple(
        Device(
            name=f"cuda:{index}",
            type="cuda",
            index=index,
            uuid=f"GPU-7d8c1b0a-1111-2222-3333-00000000000{index}",
            model_name="NVIDIA H100 80GB HBM3",
        )
        for index in range(2)
    )
    wrong = Finding(
        id="tensor_ops.linear_algebra",
        status="fail",
        message=f"1 of 31 operations wrong (matmul): {LOST_BITS}",
        observed=[LOST_BITS],
        expected="all 31 operations right in every element",
        hint="run it again on the CPU, then test the GPU's memory with `dcgmi diag -r 3`",
        action="drain",
        wrong={"matmul": "bits"},
        patterns={"matmul": PATTERN},
        triage=TRIAGE,
    )
    slow = Finding(
        id="device_transfer.pinned",
        status="warn",
        message="expected 6.0, observed NaN",
        observed=float("nan"),
        expected=6.0,
        action="investigate",
    )
    results = [
        result("torch_version"),
        result(
            "tensor_ops",
            "cuda:0",
            "fail",
            summary=f"{wrong.message} ({RETRIES})",
            findings=(Finding(id="tensor_ops.creation", status="pass"), wrong),
        ),
        result(
            "device_transfer",
            "cuda:0",
            "warn",
            summary=slow.message,
            findings=(slow,),
            measurements=(Measurement(name="x", value=float("nan"), unit="seconds"),),
        ),
        result(
            "train_eval",
            "cuda:0",
            "fail",
            reason="crashed",
            summary="killed by SIGSEGV",
            log_tail="--- train_eval\nFatal Python error: \x1b[31mSegmentation fault\x1b[0m\x00\n",
        ),
        result(
            "autograd",
            "cuda:0",
            "error",
            reason="internal_error",
            summary="KeyError: 'x'",
            error=Failure(type="KeyError", message="'x'", traceback="Traceback: in observe"),
        ),
        result(
            "autograd",
            "cuda:1",
            "skip",
            reason="gpu_busy",
            summary="2 other processes hold 70 GiB of its memory",
        ),
    ]
    not_run = [NotRun(probe="train_eval", device="cuda:1", reason="run_timeout")]
    return report(results, not_run, devices=gpus, duration_s=300.0)


#: Four GPUs of a node, as its daemon knows them.
GPUS = tuple(
    Device(
        name=f"cuda:{index}",
        type="cuda",
        index=index,
        uuid=f"GPU-7d8c1b0a-1111-2222-3333-{index:012d}",
        pci_bus_id=f"0000:0{index}:00.0",
    )
    for index in range(4)
)


def node(
    changed: dict[str, dict[str, Any]] | None = None, specs: Sequence[ProbeSpec] = QUICK
) -> Report:
    """A daemon's report of four GPUs; `changed` names results as `probe on device`."""
    results = []
    for spec in specs:
        for device in (CPU,) if spec.needs == "host" else GPUS:
            fields: dict[str, Any] = {"gpu_uuid": device.uuid}
            fields |= (changed or {}).get(f"{spec.name} on {device.name}", {})
            results.append(result(spec.name, device.name, **fields))
    return report(results, devices=GPUS, trigger="merged")


def recent(made: Report) -> bytes:
    """The report as if it were ten seconds old, of the torch that is installed here."""
    document = json.loads(to_json(made))
    for one in document["results"]:
        one["started_at"] = time.time() - 10
    document["environment"]["torch"] = fresh.installed_torch()
    return json.dumps(document).encode()
