"""The faults for the checks of this probe."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.wrong_operation import check_ids

_SILENT: Final = Event(
    "silent data corruption in one compute unit of one multiprocessor",
    "https://arxiv.org/abs/2605.04213",
)
_INCONSISTENT: Final = Event(
    "a unit that is wrong now and then, hot, under load or beside others",
    "https://arxiv.org/abs/2502.12340",
)
_COMPILER: Final = Event(
    "a compiler or driver that makes a wrong instruction for an architecture",
    "https://github.com/pytorch/pytorch/issues/22078",
)
_LOST: Final = Event(
    "work never reaches a part of the GPU",
    "https://docs.nvidia.com/deploy/mps/index.html",
)
_BLIND: Final = Event(
    "a test that checks nothing passes",
    "https://github.com/wilicc/gpu-burn/issues/12",
)


def _unit(unit: str, name: str, event: Event, *, spares: str = "", **arguments: Any) -> Fault:
    return _fault(
        f"{unit}.{name}",
        unit,
        event,
        Injection("tensor_units.wrong", {"unit": unit, **arguments}),
        spares=f"{spares} planted coverage",
    )


def _fault(
    name: str, checks: str, event: Event, injection: Injection, *, spares: str = ""
) -> Fault:
    return Fault(
        name=f"tensor_cores.{name}",
        kind="environment",
        where="any",
        event=event,
        inject=(injection,),
        trips=check_ids("tensor_cores", checks),
        spares=check_ids("tensor_cores", spares),
    )


FAULTS: Final[tuple[Fault, ...]] = (
    _unit("fp16", "one_bit", _SILENT, spares="bf16 fma_fp32"),
    _unit("bf16", "when_hot", _INCONSISTENT, spares="fp16", when="hot"),
    _unit("tf32", "two_multiprocessors", _SILENT, spares="fp16", multiprocessors=(3, 5)),
    _unit("int8", "intermittent", _INCONSISTENT, spares="fp16", every=4),
    _unit("fp64", "whole_multiprocessor", _SILENT, spares="fma_fp64", partitions=()),
    _unit(
        "fp8_e4m3", "everywhere", _COMPILER, spares="fp8_e5m2", multiprocessors=(), partitions=()
    ),
    _unit("fp8_e5m2", "one_bit", _SILENT, spares="fp8_e4m3"),
    _unit("fma_fp32", "when_crowded", _INCONSISTENT, spares="fp64", when="crowded"),
    _unit("fma_fp64", "beside_others", _INCONSISTENT, spares="fp64", when="mixed"),
    _unit("mad_int32", "one_partition", _SILENT, spares="int8", multiprocessors=()),
    _fault(
        "multiprocessor_unseen",
        "coverage",
        _LOST,
        Injection("tensor_units.unseen"),
        spares="fp16 planted",
    ),
    _fault(
        "partition_unseen",
        "coverage",
        _LOST,
        Injection("tensor_units.unseen", {"partitions": (1,)}),
        spares="fp16 planted",
    ),
    _fault("silent", "fp16 mad_int32 coverage", _SILENT, Injection("tensor_units.silent")),
    _fault("blind", "planted", _BLIND, Injection("tensor_units.blind"), spares="fp16 coverage"),
)
