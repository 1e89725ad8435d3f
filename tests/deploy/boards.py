"""Cases of boards: what `telemetry` says of them, and how many there are."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from tests.deploy.case import DOWN, Case, Firing, Script, due, failed
from tests.deploy.fleet import PROBES, Node, Target, Wrong

_MINUTE_S = 60.0


def _telemetry(*wrong: Wrong, of: int = 1, until: int = 1) -> Callable[[], Script]:
    """A run each minute; what is wrong is so in the first `until` minutes of every `of`."""

    def make() -> Script:
        node = Node("node-1", probes=(*PROBES, "telemetry"))

        def script(at_s: float) -> Iterable[Target]:
            node.run(at_s, *(wrong if at_s / _MINUTE_S % of < until else ()))
            return (node,)

        return script

    return make


def _says(status: str, *checks: str) -> Wrong:
    return Wrong("telemetry", "fail" if status == "fail" else "warn", checks=checks)


def _node_by_minute(node_at: Callable[[int], Node | None]) -> Callable[[], Script]:
    """A daemon that is another from time to time: what `node_at` gives is the one from then on."""

    def make() -> Script:
        nodes: list[Node] = []

        def script(at_s: float) -> Iterable[Target]:
            new = node_at(int(at_s // _MINUTE_S)) if due(at_s, _MINUTE_S) else None
            if new is not None:
                new.started_s = at_s
                nodes.append(new)
            if due(at_s):
                nodes[-1].run(at_s)
            return (nodes[-1],)

        return script

    return make


def _cut_up_anew(minute: int) -> Node | None:
    """Seven instances a GPU, then two, then whole ones."""
    return {
        0: Node("node-1", instances=7),
        20: Node("node-1", instances=2),
        45: Node("node-1"),
    }.get(minute)


def _moved_to_another_pool(minute: int) -> Node | None:
    pools = {0: ("whole", 8), 20: ("halves", 4)}
    if minute not in pools:
        return None
    pool, count = pools[minute]
    return Node("node-1", gpu_count=count, target={"pool": pool})


def _slow_to_start() -> Script:
    """A new daemon needs twenty-five minutes until its first result that needs torch."""
    probes = (*PROBES, "telemetry")
    nodes = [Node("node-1", probes=probes)]

    def script(at_s: float) -> Iterable[Target]:
        if at_s == 600:
            nodes.append(Node("node-1", started_s=at_s, probes=probes))
        if not 600 <= at_s < 2100:
            nodes[-1].run(at_s)
        else:
            nodes[-1].run_without_torch(at_s)
        return (nodes[-1],)

    return script


def _two_pods_at_once(*, bus_ids: bool = True) -> Callable[[], Script]:
    """A rollout that starts the new pod before the old one, which may know less, ends."""

    def make() -> Script:
        old = Node("node-1", target={"pod": "old"}, bus_ids=bus_ids)
        new = Node("node-1", started_s=600, target={"pod": "new"})

        def script(at_s: float) -> Iterable[Target]:
            here = ([old] if at_s < 900 else []) + ([new] if at_s >= 600 else [])
            for node in here:
                if due(at_s, 120):
                    node.run(at_s)
            return here

        return script

    return make


def _new_image(*, imports: bool) -> Callable[[], Script]:
    """After twenty minutes a validator that has no torch, or cannot start its worker."""

    def make() -> Script:
        nodes = [Node("node-1")]

        def script(at_s: float) -> Iterable[Target]:
            if at_s == 1200:
                nodes.append(Node("node-1", started_s=at_s))
            elif due(at_s - 60):
                if at_s < 1200:
                    nodes[-1].run(at_s)
                else:
                    nodes[-1].run_without_worker(at_s, imports=imports)
            return (nodes[-1],)

        return script

    return make


def _loses_a_gpu_and_goes_down() -> Script:
    node, other = Node("node-1"), Node("node-2")

    def script(at_s: float) -> Iterable[Target]:
        node.gpu_count = 2 if at_s < 600 else 1
        if due(at_s):
            node.run(at_s)
            other.run(at_s)
        node.up = at_s < 1500
        return node, other

    return script


def _verifies_and_restarts() -> Script:
    """A minute of verified products on each GPU every ten; a new daemon after an hour."""
    nodes: list[Node] = []

    def script(at_s: float) -> Iterable[Target]:
        starts = due(at_s, 3600) and at_s < 7200
        if starts:
            nodes.append(Node("node-1", started_s=at_s))
        nodes[-1].verified_s = 0.0 if starts else 60.0  # its first run is quick
        if due(at_s, 600):
            nodes[-1].run(at_s)
        return (nodes[-1],)

    return script


_FELL = Firing("GpuValidatorGpuCountFell", severity="critical")
_THROTTLED = Firing(
    "GpuValidatorThrottled",
    labels={"probe": "telemetry", "check": "clocks"},
    summary="node-1: telemetry.clocks warned in 50% of an hour",
)

BOARDS: dict[str, Case] = {
    # What asks for a drain is a fail, and pages at once.
    "a-board-is-broken": Case(
        _telemetry(_says("fail", "remapped_rows", "recovery_action")),
        {
            20: (
                failed(
                    probe="telemetry", checks=("recovery_action on cpu", "remapped_rows on cpu")
                ),
            )
        },
    ),
    # What asks for a look is a warning, after a while.
    "a-board-waits-for-a-reset": Case(
        _telemetry(_says("warn", "remapped_rows")),
        {
            14: (),
            16: (
                Firing(
                    "GpuValidatorGpuDegraded",
                    labels={"probe": "telemetry", "check": "remapped_rows"},
                    summary="node-1: telemetry.remapped_rows warns: look at this node's GPUs",
                ),
            ),
        },
    ),
    "a-board-warned-once": Case(
        _telemetry(_says("warn", "nvlink", "clocks"), of=40, until=3), {6: (), 20: (), 39: ()}
    ),
    # Hot every second minute: no `for` would ever be over.
    "throttled-half-of-the-time": Case(
        _telemetry(_says("warn", "clocks"), of=2),
        {14: (), 20: (replace(_THROTTLED, summary=None),), 59: (_THROTTLED,)},
    ),
    "throttled-for-a-moment": Case(
        _telemetry(_says("warn", "clocks", "temperature"), of=10), {20: (), 60: ()}
    ),
    # Eleven runs on two GPUs, counted over the restart.
    "verified-and-restarted": Case(
        _verifies_and_restarts,
        {58: (), 120: ()},
        step=2,
        values={
            "job:gpu_validator_verified_seconds:increase1d": {'{job="gpu-env-validator"}': 1320}
        },
    ),
    "cut-up-anew": Case(_node_by_minute(_cut_up_anew), {40: (), 60: ()}),
    "moved-to-another-pool": Case(_node_by_minute(_moved_to_another_pool), {31: (), 40: ()}),
    "slow-to-start": Case(_slow_to_start, {25: (), 34: (), 40: ()}),
    "two-pods-at-once": Case(_two_pods_at_once(), {14: (), 40: ()}),
    "two-pods-that-count-otherwise": Case(_two_pods_at_once(bus_ids=False), {14: (), 40: ()}),
    # What cannot look at the devices has not lost one.
    "an-image-without-torch": Case(
        _new_image(imports=False),
        {
            20: (),
            50: (
                failed(probe="torch_version", reason="import_failed", checks=("completes on cpu",)),
            ),
        },
    ),
    "a-worker-that-cannot-start": Case(
        _new_image(imports=True),
        {
            34: (),
            50: tuple(
                Firing(
                    "GpuValidatorCouldNotTell",
                    labels={"probe": probe},
                    summary=f"node-1: {probe} could not tell (internal_error)",
                )
                for probe in PROBES
            ),
        },
    ),
    "a-gpu-is-gone-and-then-the-node": Case(
        _loses_a_gpu_and_goes_down, {19: (), 24: (_FELL,), 60: (_FELL, replace(DOWN, summary=None))}
    ),
}
