"""What happens in a fleet, and which alerts fire then: in both directions.

At every named minute exactly the named alerts fire, so that each case is also a proof that all the
other alerts stay silent. `promtool_cases` makes promtool's files of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from tests.deploy.fleet import INTERVAL_S, TIMEOUT_S, Node, TextfileNode, Wrong

Script = Callable[[float], Iterable[Node]]


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


_BUSY_PROBES = tuple(Wrong(probe, "skip", "gpu_busy") for probe in ("tensor_ops", "train_eval"))
_NOT_APPLICABLE = tuple(
    Wrong(probe, "skip", "not_applicable") for probe in ("tensor_ops", "train_eval")
)


def _due(at_s: float, every_s: float = INTERVAL_S) -> bool:
    return at_s % every_s == 0


def _always(
    *wrong: Wrong, first_s: float = 0, last_s: float = float("inf")
) -> Callable[[], Script]:
    """Two nodes that run on time; what is wrong is so on the first one, for a time."""

    def make() -> Script:
        one, two = Node("node-1"), Node("node-2")

        def script(at_s: float) -> Iterable[Node]:
            if _due(at_s):
                one.run(at_s, *(wrong if first_s <= at_s < last_s else ()))
                two.run(at_s)
            return one, two

        return script

    return make


def _never_ran() -> Script:
    node = Node("node-1")
    return lambda _: (node,)


def _flapping() -> Script:
    node = Node("node-1")

    def script(at_s: float) -> Iterable[Node]:
        if _due(at_s):
            odd = at_s // 1800 % 2 == 1  # half an hour well, half an hour not
            node.run(at_s, *([Wrong("tensor_ops", "fail")] if odd else []))
        return (node,)

    return script


def _failing_and_restarted() -> Script:
    """The daemon starts again every half hour and knows nothing for a minute."""
    nodes = [Node("node-1")]

    def script(at_s: float) -> Iterable[Node]:
        if at_s % 1800 == 0:
            nodes.append(Node("node-1", started_s=at_s))
        elif _due(at_s - 60):
            nodes[-1].run(at_s, Wrong("tensor_ops", "fail"))
        return (nodes[-1],)

    return script


def _failed_once_and_restarted() -> Script:
    """One failure of ten minutes; the daemon starts again every hour."""
    nodes = [Node("node-1")]

    def script(at_s: float) -> Iterable[Node]:
        if at_s % 3600 == 0:
            nodes.append(Node("node-1", started_s=at_s))
        elif _due(at_s - 60):
            nodes[-1].run(at_s, *([Wrong("tensor_ops", "fail")] if 600 < at_s < 1200 else []))
        return (nodes[-1],)

    return script


def _stopped_scheduler() -> Script:
    node = Node("node-1")

    def script(at_s: float) -> Iterable[Node]:
        if at_s <= 600 and _due(at_s):
            node.run(at_s)
        return (node,)

    return script


def _down() -> Script:
    one, two = Node("node-1"), Node("node-2")

    def script(at_s: float) -> Iterable[Node]:
        if _due(at_s):
            one.run(at_s)
            two.run(at_s)
        one.up = at_s < 600
        return one, two

    return script


def _gone() -> Script:
    """Service discovery finds nothing after ten minutes."""
    node = Node("node-1")

    def script(at_s: float) -> Iterable[Node]:
        if _due(at_s):
            node.run(at_s)
        return (node,) if at_s < 600 else ()

    return script


def _restarted_worker() -> Script:
    node = Node("node-1")

    def script(at_s: float) -> Iterable[Node]:
        if _due(at_s):
            node.run(at_s)
        if at_s >= 600:
            node.restarts["hung"] = 1
        return (node,)

    return script


def _loses_gpu(left: int) -> Callable[[], Script]:
    def make() -> Script:
        node = Node("node-1")

        def script(at_s: float) -> Iterable[Node]:
            node.gpu_count = 2 if at_s < 1200 else left
            if _due(at_s):
                node.run(at_s)
            return (node,)

        return script

    return make


def _drift(fingerprint: str) -> Callable[[], Script]:
    def make() -> Script:
        one, two = Node("node-1"), Node("node-2", fingerprint=fingerprint)

        def script(at_s: float) -> Iterable[Node]:
            if _due(at_s):
                one.run(at_s)
                two.run(at_s)
            return one, two

        return script

    return make


def _beside_a_node_that_never_ran() -> Script:
    """Before its first run a node has no environment: that is no drift."""
    one, fresh = Node("node-1"), Node("node-2")

    def script(at_s: float) -> Iterable[Node]:
        if _due(at_s):
            one.run(at_s)
        return one, fresh

    return script


def _held_device() -> Script:
    """From ten minutes on nothing runs on one of two devices."""
    node = Node("node-1")

    def script(at_s: float) -> Iterable[Node]:
        node.held = "cuda:1" if at_s > 600 else None
        if _due(at_s):
            node.run(at_s)
        return (node,)

    return script


def _all_day(*wrong: Wrong, restarted_s: float = 0) -> Callable[[], Script]:
    """What is wrong is so at every run; the daemon starts again once."""

    def make() -> Script:
        nodes = [Node("node-1")]

        def script(at_s: float) -> Iterable[Node]:
            if at_s and at_s == restarted_s:
                nodes.append(Node("node-1", started_s=at_s))
            if _due(at_s, 240):
                nodes[-1].run(at_s, *wrong)
            return (nodes[-1],)

        return script

    return make


def _busy_twice_a_day() -> Script:
    """Probes that are due every twelve hours: well at first, then busy."""
    node = Node("node-1", interval_s=12 * 3600)

    def script(at_s: float) -> Iterable[Node]:
        if _due(at_s, node.interval_s):
            node.run(at_s, *(_BUSY_PROBES if at_s else ()))
        return (node,)

    return script


def _busy(idle_s: float | None = None) -> Callable[[], Script]:
    """Device probes are skipped all day, but for one moment."""

    def make() -> Script:
        node = Node("node-1")

        def script(at_s: float) -> Iterable[Node]:
            if _due(at_s, 240):
                node.run(at_s, *(() if at_s == idle_s else _BUSY_PROBES))
            return (node,)

        return script

    return make


def _textfile(*, timer_s: float, wrong: tuple[Wrong, ...] = ()) -> Callable[[], Script]:
    """The file is written every hour until the timer stops."""

    def make() -> Script:
        node = TextfileNode("node-1:9100")

        def script(at_s: float) -> Iterable[Node]:
            if at_s <= timer_s and _due(at_s, 3600):
                node.run(at_s, *wrong)
            return (node,)

        return script

    return make


_FAILED = Firing(
    "GpuValidatorCheckFailed",
    severity="critical",
    labels={"probe": "tensor_ops"},
    summary="node-1: tensor_ops failed: do not compute on this node",
    description="PyTorch broke a promise on this node. Without success there: cuda:1 ",
)
_FAILED_EVERYWHERE = Firing("GpuValidatorCheckFailed", severity="critical", labels=_FAILED.labels)
_BUSY = tuple(
    Firing(
        "GpuValidatorBusyTooLong",
        severity="info",
        labels={"probe": probe},
        summary=f"node-1: {probe} skipped for a day, its GPU is always busy",
    )
    for probe in ("tensor_ops", "train_eval")
)
_HAD_TWO = (
    "It had 2. A GPU fell off the bus, or this container lost it. Set expect.gpus to make fewer a "
    "failed check."
)

CASES_BY_NAME: dict[str, Case] = {
    "healthy": Case(
        _always(),
        dict.fromkeys((0, 4, 11, 60, 180, 420), ()),
        values={
            "job:gpu_validator_healthy_gpus:ratio": {'{job="gpu-env-validator"}': 1},
            "job:gpu_validator_healthy_nodes:ratio": {'{job="gpu-env-validator"}': 1},
            "instance:gpu_validator_last_run_age_seconds:max": {
                '{instance="node-1", job="gpu-env-validator"}': -0.5,
                '{instance="node-2", job="gpu-env-validator"}': -0.5,
            },
            "instance:gpu_validator_probe_duration_seconds:sum": {
                '{instance="node-1", job="gpu-env-validator"}': 1.5,
                '{instance="node-2", job="gpu-env-validator"}': 1.5,
            },
        },
    ),
    "never-ran": Case(
        _never_ran,
        {
            29: (),
            31: (
                Firing(
                    "GpuValidatorNotReady",
                    summary="node-1: nothing vouches for this node",
                ),
            ),
        },
    ),
    "one-gpu-fails-and-recovers": Case(
        _always(Wrong("tensor_ops", "fail", device="cuda:1"), first_s=600, last_s=1800),
        {9: (), 11: (_FAILED,), 29: (_FAILED,), 39: (_FAILED,), 41: ()},
    ),
    "one-gpu-of-four-is-sick": Case(
        _always(Wrong("tensor_ops", "fail", device="cuda:1")),
        {10: (_FAILED,)},
        values={
            "job:gpu_validator_healthy_gpus:ratio": {'{job="gpu-env-validator"}': 0.75},
            "job:gpu_validator_healthy_nodes:ratio": {'{job="gpu-env-validator"}': 0.5},
            "device:gpu_validator_healthy:bool == 0": {
                '{device="cuda:1", instance="node-1", job="gpu-env-validator"}': 0
            },
        },
    ),
    "a-gpu-that-nothing-vouches-for": Case(
        # Both probes of this GPU do not apply: no alert, and not healthy either.
        _always(
            Wrong("tensor_ops", "skip", "not_applicable", device="cuda:1"),
            Wrong("train_eval", "skip", "not_applicable", device="cuda:1"),
        ),
        {60: ()},
        values={"job:gpu_validator_healthy_gpus:ratio": {'{job="gpu-env-validator"}': 0.75}},
    ),
    "a-probe-that-does-not-apply": Case(
        _always(Wrong("tensor_ops", "skip", "not_applicable", device="cuda:1")),
        {60: ()},
        values={"job:gpu_validator_healthy_gpus:ratio": {'{job="gpu-env-validator"}': 1}},
    ),
    "warns": Case(_always(Wrong("tensor_ops", "warn")), {11: (), 60: ()}),
    "flapping": Case(
        _flapping,
        {
            59: (_FAILED_EVERYWHERE,),
            75: (),
            91: (
                _FAILED_EVERYWHERE,
                Firing(
                    "GpuValidatorFlapping",
                    labels={"probe": "tensor_ops"},
                    summary="node-1: tensor_ops fails again and again, and passes between",
                    description="Its verdict changed between failed and not failed 3 times in a "
                    "day. Faults that come and go ruin results without a crash.",
                ),
            ),
        },
    ),
    "failing-and-restarted": Case(
        _failing_and_restarted, dict.fromkeys((20, 110, 290), (_FAILED_EVERYWHERE,))
    ),
    "failed-once-and-restarted": Case(_failed_once_and_restarted, {90: (), 200: ()}),
    "could-not-tell": Case(
        _always(Wrong("tensor_ops", "error", "internal_error"), first_s=600),
        {
            24: (),
            26: (
                Firing(
                    "GpuValidatorCouldNotTell",
                    labels={"probe": "tensor_ops"},
                    summary="node-1: tensor_ops could not tell",
                ),
            ),
        },
    ),
    "stale": Case(
        _stopped_scheduler,
        {
            29: (),
            31: tuple(
                Firing(
                    "GpuValidatorStale",
                    labels={"probe": probe},
                    summary=f"node-1: {probe} has not run for 20m 59s",
                )
                for probe in ("torch_version", "tensor_ops", "train_eval")
            ),
            # By now they are errors too, and told once.
            50: tuple(
                Firing("GpuValidatorStale", labels={"probe": probe})
                for probe in ("torch_version", "tensor_ops", "train_eval")
            ),
        },
    ),
    "a-device-is-held": Case(
        _held_device,
        {
            29: (),
            31: tuple(
                Firing("GpuValidatorStale", labels={"probe": probe})
                for probe in ("tensor_ops", "train_eval")
            ),
        },
    ),
    "down": Case(
        _down,
        {
            14: (),
            16: (
                Firing(
                    "GpuValidatorDown",
                    summary="node-1: the validator does not answer",
                ),
            ),
        },
    ),
    "absent": Case(
        _gone,
        {
            19: (),
            21: (
                Firing(
                    "GpuValidatorAbsent",
                    instance=None,
                    job=None,
                    severity="critical",
                    summary="No validator reports to this Prometheus",
                ),
            ),
        },
    ),
    "hangs": Case(
        _always(
            Wrong("tensor_ops", "fail", "timeout", device="cuda:1", duration_s=TIMEOUT_S + 0.2),
            first_s=600,
        ),
        {
            9: (),
            12: (
                _FAILED,
                Firing(
                    "GpuValidatorProbeTimedOut",
                    severity="critical",
                    labels={"probe": "tensor_ops"},
                    summary="node-1: tensor_ops hung and was ended after 1m 0s",
                ),
            ),
        },
    ),
    "worker-restarted": Case(
        _restarted_worker,
        {
            9: (),
            12: (
                Firing(
                    "GpuValidatorWorkerRestarted",
                    labels={"reason": "hung"},
                    summary="node-1: the process that runs probes hung",
                ),
            ),
            72: (),
        },
    ),
    "a-gpu-is-gone": Case(
        _loses_gpu(1),
        {
            29: (),
            31: (
                Firing(
                    "GpuValidatorGpuCountFell",
                    severity="critical",
                    summary="node-1: 1 GPUs, fewer than within the last day",
                    description=_HAD_TWO,
                ),
            ),
        },
    ),
    "all-gpus-are-gone": Case(
        _loses_gpu(0),
        {
            29: (),
            31: (
                Firing(
                    "GpuValidatorGpuCountFell",
                    severity="critical",
                    summary="node-1: 0 GPUs, fewer than within the last day",
                    description=_HAD_TWO,
                ),
            ),
        },
    ),
    "drift": Case(
        _drift("bbbbbbbbbbbb"),
        {
            359: (),
            361: (
                Firing(
                    "GpuValidatorEnvironmentDrift",
                    instance=None,
                    summary="gpu-env-validator: nodes compute with 2 different environments",
                    description="One job over several of them mixes versions: "
                    "1 nodes aaaaaaaaaaaa (torch 2.13.0, driver 570.1) "
                    "1 nodes bbbbbbbbbbbb (torch 2.13.0, driver 570.1) ",
                ),
            ),
        },
    ),
    "a-node-that-never-ran-is-no-drift": Case(
        _beside_a_node_that_never_ran,
        {361: (Firing("GpuValidatorNotReady", instance="node-2"),)},
    ),
    "busy-all-day": Case(_busy(), {24 * 60 + 8: (), 25 * 60: _BUSY}, step=4),
    "busy-but-for-a-moment": Case(_busy(12 * 3600.0), {25 * 60: ()}, step=4),
    "busy-since-a-restart": Case(
        _all_day(*_BUSY_PROBES, restarted_s=23 * 3600), {25 * 60: ()}, step=4
    ),
    "busy-but-failing-elsewhere": Case(
        _all_day(
            Wrong("tensor_ops", "skip", "gpu_busy", device="cuda:0"),
            Wrong("tensor_ops", "fail", device="cuda:1"),
        ),
        {25 * 60: (_FAILED_EVERYWHERE,)},
        step=4,
    ),
    "rarely-due-and-busy": Case(
        _busy_twice_a_day,
        {
            30 * 60: (),
            38 * 60: tuple(replace(one, summary=None, description=None) for one in _BUSY),
        },
        step=4,
    ),
    "not-applicable-all-day": Case(_all_day(*_NOT_APPLICABLE), {25 * 60: ()}, step=4),
    "textfile": Case(
        _textfile(timer_s=7200),
        {
            1 * 60: (),
            50 * 60 + 8: (),
            51 * 60: (
                Firing(
                    "GpuValidatorTextfileStale",
                    instance="node-1:9100",
                    job="node",
                    labels={"file": TextfileNode.file},
                    summary="node-1:9100: the last check is 2d 1h 0m 0s old",
                    description=f"{TextfileNode.file} is no longer written: its verdict says "
                    "nothing about now.",
                ),
            ),
        },
        step=4,
    ),
    "textfile-of-a-sick-node": Case(
        _textfile(timer_s=float("inf"), wrong=(Wrong("tensor_ops", "fail", device="cuda:1"),)),
        {
            60: (
                Firing(
                    "GpuValidatorCheckFailed",
                    instance="node-1:9100",
                    job="node",
                    severity="critical",
                    labels={"probe": "tensor_ops"},
                    summary="node-1:9100: tensor_ops failed: do not compute on this node",
                    description=_FAILED.description,
                ),
            ),
        },
    ),
}
