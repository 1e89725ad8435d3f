"""Cases of validators that start again, stop answering, and come back: no gap is a recovery."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from probes.catalog import BY_NAME, CATALOG
from tests.deploy.case import DOWN, FAILED, SICK, Case, Firing, Script, due, failed
from tests.deploy.fleet import PROBES, TIMEOUT_S, Node, Target, TextfileNode, Wrong

_HEAVY = next(spec.name for spec in CATALOG if spec.is_heavy and spec.needs == "device")
_HEAVY_CHECK = next(iter(BY_NAME[_HEAVY].promises))

UNSTABLE = Firing("GpuValidatorUnstable", severity="critical")


def _unstable(processes: int, answered: str) -> Firing:
    return replace(
        UNSTABLE,
        summary="node-1: the validator starts again and again, or answers by turns",
        description=f"{processes} processes answered in the last hour. {answered} of its scrapes "
        "were answered. Nobody watches this node's GPUs, though the target looks well now and "
        "then.",
    )


def _crash_loop(
    up_s: float, down_s: float, *, pods: bool = False, run: bool = True
) -> Callable[[], Script]:
    """A daemon that lives so long, and is away so long; a pod of its own each time, if asked."""

    def make() -> Script:
        nodes: list[Node] = []

        def script(at_s: float) -> Iterable[Target]:
            nth, since_s = divmod(at_s, up_s + down_s)
            if since_s == 0:
                target = {"pod": f"pod-{nth:.0f}"} if pods else {}
                nodes.append(Node("node-1", started_s=at_s, target=target))
                if run:
                    nodes[-1].run(at_s)
            nodes[-1].up = since_s < up_s
            return () if pods and not nodes[-1].up else (nodes[-1],)

        return script

    return make


def _blinking(up_s: float, down_s: float, *wrong: Wrong, ran: bool = True) -> Callable[[], Script]:
    """One daemon on a bad network: some scrapes get no answer."""

    def make() -> Script:
        node = Node("node-1")

        def script(at_s: float) -> Iterable[Target]:
            if ran and due(at_s):
                node.run(at_s, *wrong)
            node.up = at_s % (up_s + down_s) < up_s
            return (node,)

        return script

    return make


def _stopped_and_blinking() -> Script:
    """The scheduler stops after ten minutes, and each fifth scrape gets no answer."""
    node = Node("node-1")

    def script(at_s: float) -> Iterable[Target]:
        if at_s <= 600 and due(at_s):
            node.run(at_s)
        node.up = at_s % 300 < 240
        return (node,)

    return script


def _restart_rollout_and_reboot() -> Script:
    """All that happens in a night of maintenance: two starts, a rollout, ten minutes of reboot."""
    nodes = [Node("node-1")]
    starts_s = (600, 1200, 2400, 4200)

    def script(at_s: float) -> Iterable[Target]:
        if at_s in starts_s:
            target = {"pod": "new"} if at_s >= 2400 else {}
            nodes.append(Node("node-1", started_s=at_s, target=target))
        elif due(at_s - 60):
            nodes[-1].run(at_s)
        nodes[-1].up = not 3600 <= at_s < 4200
        return (nodes[-1],)

    return script


def _two_replicas_of_prometheus() -> Script:
    """Two restarts within an hour, seen by two replicas whose labels nobody removed."""
    nodes: dict[str, Node] = {}

    def script(at_s: float) -> Iterable[Target]:
        for replica in ("a", "b"):
            if at_s in {0, 1800, 3600}:
                target = {"prometheus_replica": replica}
                nodes[replica] = Node("node-1", started_s=at_s, target=target)
            elif due(at_s - 60):
                nodes[replica].run(at_s)
        return tuple(nodes.values())

    return script


def _killed_each_hour() -> Script:
    nodes = [Node("node-1")]

    def script(at_s: float) -> Iterable[Target]:
        if due(at_s, 3600):
            nodes.append(Node("node-1", started_s=at_s))
        nodes[-1].run(at_s)
        return (nodes[-1],)

    return script


def _fails_and_goes_down(
    *after: Wrong, removed: bool = False, probes: tuple[str, ...] = PROBES, gpu_count: int = 2
) -> Callable[[], Script]:
    """Sick from ten minutes on, away from twenty on; a new daemon, with what is wrong, at 160."""

    def make() -> Script:
        nodes, two = [Node("node-1")], Node("node-2")
        back_s = 160 * 60

        def script(at_s: float) -> Iterable[Target]:
            if at_s == back_s:
                nodes.append(Node("node-1", started_s=at_s, probes=probes, gpu_count=gpu_count))
            if at_s < 1200 and due(at_s, 120):
                nodes[-1].run(at_s, *([SICK] if at_s >= 600 else []))
            elif at_s > back_s + 480 and due(at_s, 120):
                nodes[-1].run(at_s, *after)
            if due(at_s, 120):
                two.run(at_s)
            away = 1200 <= at_s < back_s
            nodes[-1].up = not away
            return (two,) if away and removed else (nodes[-1], two)

        return script

    return make


def _then(*wrong: Wrong, probes: tuple[str, ...] = PROBES, gpus: int = 2) -> Callable[[], Script]:
    """Sick at first; from ten minutes on a daemon that started again says something else."""

    def make() -> Script:
        nodes = [Node("node-1")]

        def script(at_s: float) -> Iterable[Target]:
            if at_s == 600:
                nodes.append(Node("node-1", started_s=at_s, probes=probes, gpu_count=gpus))
            elif due(at_s - 60):
                nodes[-1].run(at_s, *([SICK] if at_s < 600 else wrong))
            return (nodes[-1],)

        return script

    return make


def _sick_under_load_and_restarted() -> Script:
    """The probe that failed loads the device: it has had no turn since the validator started."""
    probes = (*PROBES, _HEAVY)
    nodes = [Node("node-1", probes=probes)]

    def script(at_s: float) -> Iterable[Target]:
        if at_s == 600:
            nodes.append(Node("node-1", started_s=at_s, probes=probes))
            nodes[-1].probes = PROBES  # those that run
        elif due(at_s - 60):
            wrong = Wrong(_HEAVY, "fail", device="cuda:1", checks=(_HEAVY_CHECK,))
            nodes[-1].run(at_s, *([wrong] if at_s < 600 else ()))
        return (nodes[-1],)

    return script


def _sick_and_then_without_a_worker() -> Script:
    """From ten minutes on the validator, started again, cannot look at any device."""
    nodes = [Node("node-1")]

    def script(at_s: float) -> Iterable[Target]:
        if at_s == 600:
            nodes.append(Node("node-1", started_s=at_s))
        elif due(at_s - 60) and at_s < 600:
            nodes[-1].run(at_s, SICK)
        elif due(at_s - 60):
            nodes[-1].run_without_worker(at_s)
        return (nodes[-1],)

    return script


def _down_while_prometheus_starts_again() -> Script:
    """Sick from ten minutes on, down from twenty on; two hours later Prometheus is off for eight.

    Promtool evaluates meanwhile, as Prometheus does when it is back and before its first scrape.
    """
    one, two = Node("node-1"), Node("node-2")

    def script(at_s: float) -> Iterable[Target]:
        if due(at_s):
            two.run(at_s)
            if at_s < 1200:
                one.run(at_s, *([SICK] if at_s >= 600 else []))
        one.up = at_s < 1200
        return () if 9000 <= at_s < 9480 else (one, two)

    return script


def _says_next(*wrong: Wrong) -> Callable[[], Script]:
    """Sick at first; from ten minutes on the same daemon says something else."""

    def make() -> Script:
        node = Node("node-1")

        def script(at_s: float) -> Iterable[Target]:
            if due(at_s):
                node.run(at_s, *([SICK] if at_s < 600 else wrong))
            return (node,)

        return script

    return make


def _failed_once_restarted_thrice() -> Script:
    """One failure of twenty minutes with a start of the daemon in it, before it and after it."""
    nodes = [Node("node-1")]

    def script(at_s: float) -> Iterable[Target]:
        if at_s in {300, 1200, 3000}:
            nodes.append(Node("node-1", started_s=at_s))
        elif due(at_s - 60):
            nodes[-1].run(at_s, *([SICK] if 600 < at_s < 1800 else []))
        return (nodes[-1],)

    return script


def _file_is_gone() -> Script:
    """A sick node whose file is removed after an hour, as by a new installation."""
    node = TextfileNode("node-1:9100")

    def script(at_s: float) -> Iterable[Target]:
        if at_s == 0:
            node.run(at_s, SICK)
        if at_s >= 3600:
            node.written_s = None
        return (node,)

    return script


_COULD_NOT_TELL = Firing("GpuValidatorCouldNotTell", labels={"probe": "tensor_ops"})

GAPS: dict[str, Case] = {
    "crash-loop-up-1-down-2": Case(
        _crash_loop(60, 120), {8: (), 12: (_unstable(5, "38.46%"),), 75: (UNSTABLE,)}
    ),
    "crash-loop-up-4-down-2": Case(
        _crash_loop(240, 120), {16: (), 24: (_unstable(5, "68%"),), 75: (UNSTABLE,)}
    ),
    # The operator names a target by its pod: between two of them there is none.
    "crash-loop-of-pods": Case(_crash_loop(60, 120, pods=True), {11: (), 12: (UNSTABLE,)}),
    # It never lives until a first result.
    "crash-loop-before-any-result": Case(
        _crash_loop(120, 240, run=False),
        {12: (), 75: (UNSTABLE, Firing("GpuValidatorNotReady"))},
    ),
    "answers-by-turns": Case(_blinking(240, 120), {16: (), 30: (UNSTABLE,)}),
    "a-restart-a-rollout-a-reboot": Case(
        _restart_rollout_and_reboot,
        {5: (), 11: (), 25: (), 45: (), 64: (), 66: (DOWN,), 72: (), 120: ()},
    ),
    "two-replicas-of-prometheus": Case(_two_replicas_of_prometheus, {59: (), 62: (), 90: ()}),
    "killed-each-hour": Case(_killed_each_hour, {11 * 60: (), 13 * 60: (UNSTABLE,)}, step=4),
    "failed-and-down": Case(
        _fails_and_goes_down(),
        {
            11 * 2: (failed("4m 0s", reason=None),),
            30: (failed("12m 0s", reason=None), DOWN),
            # It answers again, and knows nothing; then the probe passes.
            158: (failed("2h 20m 0s", reason=None), DOWN),
            166: (failed("2h 28m 0s", reason=None),),
            182: (),
        },
        step=2,
    ),
    "failed-and-down-and-still-sick": Case(
        _fails_and_goes_down(SICK), {166: (FAILED,), 190: (FAILED,)}, step=2
    ),
    "failed-and-down-and-busy": Case(
        # The other GPU passes, and so does the probe on the whole: the sick one has proven nothing.
        _fails_and_goes_down(Wrong("tensor_ops", "skip", "gpu_busy", device="cuda:1")),
        {190: (failed("2h 52m 0s", reason=None),)},
        step=2,
    ),
    "failed-and-removed": Case(
        _fails_and_goes_down(removed=True),
        {30: (FAILED,), 76: (FAILED,), 96: (), 190: ()},
        step=2,
    ),
    "failed-and-switched-off": Case(
        _then(probes=("torch_version", "train_eval")), {9: (FAILED,), 10: (FAILED,), 25: ()}
    ),
    "failed-and-not-applicable": Case(
        _then(Wrong("tensor_ops", "skip", "not_applicable")), {10: (FAILED,), 25: ()}
    ),
    "failed-and-its-gpu-is-gone": Case(
        _then(gpus=1),
        {
            10: (FAILED,),
            20: (FAILED,),
            25: (
                Firing(
                    "GpuValidatorGpuCountFell",
                    severity="critical",
                    summary="node-1: 1 GPUs, fewer than within the last day",
                    description="It had 2. A GPU fell off the bus, or this container lost it. Set "
                    "expect.gpus to make fewer a failed check.",
                ),
            ),
        },
    ),
    "failed-under-load-and-restarted": Case(
        _sick_under_load_and_restarted,
        {60: (failed("51m 0s", reason=None, probe=_HEAVY, checks=(f"{_HEAVY_CHECK} on cuda:1",)),)},
    ),
    "failed-and-then-without-a-worker": Case(
        _sick_and_then_without_a_worker,
        {
            10: (FAILED,),
            80: (
                failed("1h 11m 0s", reason=None),
                *(replace(_COULD_NOT_TELL, labels={"probe": probe}) for probe in PROBES),
            ),
        },
    ),
    "failed-and-busy-beside-not-applicable": Case(
        _then(
            Wrong("tensor_ops", "skip", "not_applicable", device="cuda:0"),
            Wrong("tensor_ops", "skip", "gpu_busy", device="cuda:1"),
        ),
        {10: (FAILED,), 60: (failed("51m 0s", reason=None),)},
    ),
    "failed-and-down-and-prometheus-restarts": Case(
        _down_while_prometheus_starts_again,
        {140: (FAILED, replace(DOWN, summary=None)), 155: (FAILED,), 200: (FAILED, DOWN)},
    ),
    "failed-then-could-not-tell": Case(
        _says_next(Wrong("tensor_ops", "error", "lost_access")),
        {20: (FAILED,), 60: (failed("51m 0s", reason=None), _COULD_NOT_TELL)},
    ),
    "failed-then-in-another-check": Case(
        _says_next(Wrong("tensor_ops", "fail", device="cuda:1", checks=("item", "slicing"))),
        {12: (failed(checks=("item on cuda:1", "slicing on cuda:1")),)},
    ),
    "failed-once-restarted-thrice": Case(
        _failed_once_restarted_thrice, {20: (FAILED,), 45: (), 55: (), 90: ()}
    ),
    "the-file-of-a-sick-node-is-gone": Case(
        _file_is_gone,
        {
            40: (replace(FAILED, instance="node-1:9100", job="node"),),
            100: (
                replace(FAILED, instance="node-1:9100", job="node"),
                Firing("GpuValidatorNoTargets", instance=None, job="node"),
            ),
            140: (Firing("GpuValidatorNoTargets", instance=None, job="node"),),
        },
        step=2,
    ),
    # Each fifth scrape fails.
    "could-not-tell-and-blinking": Case(
        _blinking(240, 60, Wrong("tensor_ops", "error", "internal_error")),
        {13: (), 16: (_COULD_NOT_TELL,), 60: (_COULD_NOT_TELL,)},
    ),
    "not-ready-and-blinking": Case(
        _blinking(240, 60, ran=False),
        {29: (), 31: (Firing("GpuValidatorNotReady"),)},
    ),
    "stale-and-blinking": Case(
        _stopped_and_blinking,
        {32: (*(Firing("GpuValidatorStale", labels={"probe": probe}) for probe in PROBES),)},
    ),
    # A run that a frozen machine made long, and an import that a file system kept waiting.
    "long-and-well": Case(
        _says_next(Wrong("tensor_ops", "pass", "ok", duration_s=TIMEOUT_S + 30)), {25: ()}
    ),
    "late-for-a-file-system": Case(
        _blinking(1e9, 0, Wrong("torch_version", "error", "timeout", duration_s=TIMEOUT_S + 0.2)),
        {14: (), 16: (replace(_COULD_NOT_TELL, labels={"probe": "torch_version"}),)},
    ),
}
