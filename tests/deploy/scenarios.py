"""What happens in a fleet, and which alerts fire then: in both directions.

At every named minute exactly the named alerts fire, so that each case is also a proof that all the
other alerts stay silent. `promtool_cases` makes promtool's files of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from tests.deploy.boards import BOARDS
from tests.deploy.case import DOWN, FAILED, SICK, Case, Firing, Script, due, failed
from tests.deploy.fleet import INTERVAL_S, TIMEOUT_S, Node, Target, TextfileNode, Wrong
from tests.deploy.fleets import FLEETS
from tests.deploy.gaps import GAPS

_BUSY_PROBES = tuple(Wrong(probe, "skip", "gpu_busy") for probe in ("tensor_ops", "train_eval"))
_NOT_APPLICABLE = tuple(
    Wrong(probe, "skip", "not_applicable") for probe in ("tensor_ops", "train_eval")
)


def _always(
    *wrong: Wrong,
    first_s: float = 0,
    last_s: float = float("inf"),
    every_s: float = INTERVAL_S,
) -> Callable[[], Script]:
    """Two nodes that run on time; what is wrong is so on the first one, for a time."""

    def make() -> Script:
        one, two = Node("node-1"), Node("node-2")

        def script(at_s: float) -> Iterable[Target]:
            if due(at_s, every_s):
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

    def script(at_s: float) -> Iterable[Target]:
        if due(at_s):
            odd = at_s // 1800 % 2 == 1  # half an hour well, half an hour not
            node.run(at_s, *([Wrong("tensor_ops", "fail")] if odd else []))
        return (node,)

    return script


def _fails_between_two_scrapes() -> Script:
    """It fails once, and is asked again at once."""
    node = Node("node-1")

    def script(at_s: float) -> Iterable[Target]:
        if at_s == 1800:
            node.run(at_s - 30, SICK)
        if due(at_s):
            node.run(at_s)
        return (node,)

    return script


def _failing_and_restarted() -> Script:
    """The daemon starts again every half hour and knows nothing for a minute."""
    nodes = [Node("node-1")]

    def script(at_s: float) -> Iterable[Target]:
        if at_s % 1800 == 0:
            nodes.append(Node("node-1", started_s=at_s))
        elif due(at_s - 60):
            nodes[-1].run(at_s, Wrong("tensor_ops", "fail"))
        return (nodes[-1],)

    return script


def _failed_once_and_restarted() -> Script:
    """One failure of ten minutes; the daemon starts again every hour."""
    nodes = [Node("node-1")]

    def script(at_s: float) -> Iterable[Target]:
        if at_s % 3600 == 0:
            nodes.append(Node("node-1", started_s=at_s))
        elif due(at_s - 60):
            nodes[-1].run(at_s, *([Wrong("tensor_ops", "fail")] if 600 < at_s < 1200 else []))
        return (nodes[-1],)

    return script


def _stopped_scheduler() -> Script:
    node = Node("node-1")

    def script(at_s: float) -> Iterable[Target]:
        if at_s <= 600 and due(at_s):
            node.run(at_s)
        return (node,)

    return script


def _down() -> Script:
    one, two = Node("node-1"), Node("node-2")

    def script(at_s: float) -> Iterable[Target]:
        if due(at_s):
            one.run(at_s)
            two.run(at_s)
        one.up = at_s < 600
        return one, two

    return script


def _restarted_worker() -> Script:
    node = Node("node-1")

    def script(at_s: float) -> Iterable[Target]:
        if due(at_s):
            node.run(at_s)
        if at_s >= 600:
            node.restarts["hung"] = 1
        return (node,)

    return script


def _loses_gpu(left: int) -> Callable[[], Script]:
    def make() -> Script:
        node = Node("node-1")

        def script(at_s: float) -> Iterable[Target]:
            node.gpu_count = 2 if at_s < 1200 else left
            if due(at_s):
                node.run(at_s)
            return (node,)

        return script

    return make


def _drift(fingerprint: str) -> Callable[[], Script]:
    def make() -> Script:
        one, two = Node("node-1"), Node("node-2", fingerprint=fingerprint)

        def script(at_s: float) -> Iterable[Target]:
            if due(at_s, 240):
                one.run(at_s)
                two.run(at_s)
            return one, two

        return script

    return make


def _beside_a_node_that_never_ran() -> Script:
    """Before its first run a node has no environment: that is no drift."""
    one, fresh = Node("node-1"), Node("node-2")

    def script(at_s: float) -> Iterable[Target]:
        if due(at_s, 240):
            one.run(at_s)
        return one, fresh

    return script


def _held_device() -> Script:
    """From ten minutes on nothing runs on one of two devices."""
    node = Node("node-1")

    def script(at_s: float) -> Iterable[Target]:
        node.held = "cuda:1" if at_s > 600 else None
        if due(at_s):
            node.run(at_s)
        return (node,)

    return script


def _a_day_of_busy_nodes() -> Script:
    """Seven nodes, by what each says at its runs after the first one."""
    says: dict[str, tuple[Wrong, ...]] = {
        "busy": _BUSY_PROBES,
        "busy-but-once": _BUSY_PROBES,
        "not-applicable": _NOT_APPLICABLE,
        "busy-and-sick": (
            Wrong("tensor_ops", "skip", "gpu_busy", device="cuda:0"),
            Wrong("tensor_ops", "fail", device="cuda:1"),
        ),
        "restarted": _BUSY_PROBES,  # what is known of a success outlives a start
        "new": _BUSY_PROBES,  # came after two hours
        "rarely-due": _BUSY_PROBES,  # twice a day; started anew before any success
    }
    often_s, rare_s = 1200.0, 12 * 3600.0

    def started(name: str, at_s: float) -> Node:
        interval_s = rare_s if name == "rarely-due" else often_s
        return Node(name, started_s=at_s, interval_s=interval_s)

    nodes = {name: started(name, 0) for name in says if name != "new"}
    starts = {"restarted": 23 * 3600, "rarely-due": 1920, "new": 7200}

    def script(at_s: float) -> Iterable[Target]:
        for name, start_s in starts.items():
            if at_s == start_s:
                nodes[name] = started(name, at_s)
        for name, node in nodes.items():
            well = at_s == 0 or (name == "busy-but-once" and at_s == rare_s)
            if due(at_s, node.interval_s):
                node.run(at_s, *(() if well else says[name]))
        return tuple(nodes.values())

    return script


def _busy_twice_a_day() -> Script:
    """Probes that are due every twelve hours: well at first, then busy."""
    node = Node("node-1", interval_s=12 * 3600)

    def script(at_s: float) -> Iterable[Target]:
        if due(at_s, node.interval_s):
            node.run(at_s, *(_BUSY_PROBES if at_s else ()))
        return (node,)

    return script


def _textfile(*, timer_s: float, wrong: tuple[Wrong, ...] = ()) -> Callable[[], Script]:
    """The file is written every hour until the timer stops."""

    def make() -> Script:
        node = TextfileNode("node-1:9100")

        def script(at_s: float) -> Iterable[Target]:
            if at_s <= timer_s and due(at_s, 3600):
                node.run(at_s, *wrong)
            return (node,)

        return script

    return make


_FAILED = failed()


def _busy(node: str) -> tuple[Firing, ...]:
    return tuple(
        Firing(
            "GpuValidatorBusyTooLong",
            instance=node,
            severity="info",
            labels={"probe": probe},
            summary=f"{node}: {probe} skipped for a day, its GPU is always busy",
        )
        for probe in ("tensor_ops", "train_eval")
    )


_HAD_TWO = (
    "It had 2. A GPU fell off the bus, or this container lost it. Set expect.gpus to make fewer a "
    "failed check."
)

_CASES: dict[str, Case] = {
    "healthy": Case(
        _always(every_s=240),
        dict.fromkeys((0, 4, 12, 60, 180, 420), ()),
        step=4,
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
        _always(SICK, first_s=600, last_s=1800),
        {9: (), 11: (_FAILED,), 29: (_FAILED,), 39: (_FAILED,), 41: ()},
    ),
    "one-gpu-of-four-is-sick": Case(
        _always(SICK),
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
            59: (FAILED,),
            75: (),
            91: (
                FAILED,
                Firing(
                    "GpuValidatorFlapping",
                    labels={"probe": "tensor_ops"},
                    summary="node-1: tensor_ops fails and passes by turns",
                    description="Within a day its verdict changed three times or more, or it "
                    "failed and passed again before a scrape saw it. Faults that come and go ruin "
                    "results without a crash.",
                ),
            ),
        },
    ),
    "fails-between-two-scrapes": Case(
        _fails_between_two_scrapes,
        {29: (), 31: (Firing("GpuValidatorFlapping", labels={"probe": "tensor_ops"}),)},
    ),
    "failing-and-restarted": Case(_failing_and_restarted, dict.fromkeys((20, 110), (FAILED,))),
    "failed-once-and-restarted": Case(_failed_once_and_restarted, {90: (), 130: ()}),
    "could-not-tell": Case(
        _always(Wrong("tensor_ops", "error", "internal_error"), first_s=600),
        {
            24: (),
            26: (
                Firing(
                    "GpuValidatorCouldNotTell",
                    labels={"probe": "tensor_ops"},
                    summary="node-1: tensor_ops could not tell (internal_error)",
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
            16: (DOWN,),
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
                failed(reason="timeout", checks=("completes on cuda:1",)),
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
            356: (),
            364: (
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
        step=4,
    ),
    "a-node-that-never-ran-is-no-drift": Case(
        _beside_a_node_that_never_ran,
        {364: (Firing("GpuValidatorNotReady", instance="node-2"),)},
        step=4,
    ),
    "busy-all-day": Case(
        _a_day_of_busy_nodes,
        {
            24 * 60 + 8: (replace(FAILED, instance="busy-and-sick"),),
            25 * 60: (
                replace(FAILED, instance="busy-and-sick"),
                *_busy("busy"),
                *_busy("restarted"),
            ),
        },
        step=4,
    ),
    "rarely-due-and-busy": Case(
        _busy_twice_a_day,
        {
            30 * 60: (),
            38 * 60: tuple(replace(one, summary=None) for one in _busy("node-1")),
        },
        step=4,
    ),
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
        _textfile(timer_s=float("inf"), wrong=(SICK,)),
        {60: (failed(instance="node-1:9100", job="node"),)},
    ),
}

CASES_BY_NAME = _CASES | GAPS | BOARDS | FLEETS
