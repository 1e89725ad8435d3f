"""What must trip each check of this probe: packages that do not fit torch."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection

_OTHER: Final = Event(
    "torchvision of another release than torch",
    "https://github.com/pytorch/pytorch/issues/157648",
)
_MISSING: Final = Event(
    "an operator that torchvision does not find",
    "https://github.com/pytorch/vision/issues/1405",
)


def _fault(name: str, check: str, event: Event, arguments: dict[str, Any]) -> Fault:
    return Fault(
        name=f"companions.{name}",
        kind="environment",
        where="host",
        event=event,
        inject=(Injection("companions.pretends", arguments),),
        trips=(f"companions.{check}",),
    )


FAULTS: Final[tuple[Fault, ...]] = (
    _fault("other_release", "requirements", _OTHER, {"needs": "torch==2.1.0"}),
    _fault("other_build", "builds", _OTHER, {"version": "0.1+rocm1.0", "torch": "2.11.0+cu130"}),
    _fault("no_import", "imports", _MISSING, {"error": "RuntimeError: torchvision::nms"}),
    _fault("nms_raises", "nms", _MISSING, {"nms_error": "RuntimeError: no such operator"}),
    _fault("nms_keeps_all", "nms", _OTHER, {"kept": (0, 1, 2)}),
    _fault("nms_keeps_none", "nms", _OTHER, {"kept": ()}),
)
