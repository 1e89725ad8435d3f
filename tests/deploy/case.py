"""What a case is: a script of what nodes say, and the alerts that fire then."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.deploy.fleet import INTERVAL_S, Target, Wrong

Script = Callable[[float], Iterable[Target]]


@dataclass(frozen=True)
class Firing:
    """An alert that fires. Its texts are given where the rule has a template for them."""

    alert: str
    instance: str | None = "node-1"
    job: str | None = "gpu-env-validator"
    severity: str = "warning"
    labels: dict[str, str] = field(default_factory=dict)
    summary: str | None = None
    description: str | None = None

    def expected_labels(self) -> dict[str, str]:
        """All labels of the alert but its name."""
        own = {"job": self.job, "instance": self.instance, "severity": self.severity}
        return {key: value for key, value in own.items() if value is not None} | self.labels


@dataclass(frozen=True)
class Case:
    """A script, how long it goes on, and what fires when."""

    script: Callable[[], Script]
    firing: dict[int, tuple[Firing, ...]]  # minute -> exactly what fires then
    step: int = 1  # minutes between samples
    values: dict[str, dict[str, float]] = field(
        default_factory=dict
    )  # expression -> series, last minute


SICK = Wrong("tensor_ops", "fail", device="cuda:1", checks=("views",))


def due(at_s: float, every_s: float = INTERVAL_S) -> bool:
    """Whether a run ends at this second."""
    return at_s % every_s == 0


def failed(
    seen: str = "0s",
    *,
    reason: str | None = "check_failed",
    probe: str = "tensor_ops",
    checks: tuple[str, ...] = ("views on cuda:1",),
    **fields: Any,
) -> Firing:
    """The page for checks that failed, and were last seen to do so that long ago."""
    named = {check.partition(" ")[0] for check in checks}
    name = f".{next(iter(named))}" if len(named) == 1 else f" ({len(named)} checks)"
    why = f" ({reason})" if reason not in {None, "check_failed"} else ""
    instance = fields.get("instance", "node-1")
    return Firing(
        "GpuValidatorCheckFailed",
        severity="critical",
        labels={"probe": probe, **fields.pop("labels", {})},
        summary=f"{instance}: {probe}{name} failed{why}: do not compute here",
        description="A promise is broken on this node: "
        + "".join(f"{check}, " for check in checks)
        + f"last seen {seen} ago. It ends when the probe passes there. The finding's action in "
        "/api/v1/report?findings=bad says who has to act.",
        **fields,
    )


FAILED = Firing("GpuValidatorCheckFailed", severity="critical", labels={"probe": "tensor_ops"})
DOWN = Firing("GpuValidatorDown", summary="node-1: the validator does not answer")
