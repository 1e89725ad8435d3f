"""Cases of several nodes: pools, clusters, and fleets that are scaled to nothing."""

from collections.abc import Callable, Iterable

from tests.deploy.case import DOWN, SICK, Case, Firing, Script, due, failed
from tests.deploy.fleet import Node, Stranger, Target, TextfileNode, WantedPods

_OTHER = "bbbbbbbbbbbb"


def _here(*nodes: Callable[[], Node], odd_starts_s: float = 0) -> Callable[[], Script]:
    """Nodes that run on time; the last one starts again every so often, and is away for a while."""

    def make() -> Script:
        made = [node() for node in nodes]

        def script(at_s: float) -> Iterable[Target]:
            if odd_starts_s and at_s and at_s % odd_starts_s == 0:
                made[-1] = nodes[-1]()
                made[-1].started_s = at_s
            for node in made:
                node.up = not (odd_starts_s and node is made[-1] and at_s % odd_starts_s < 480)
                if node.up and due(at_s, 240):
                    node.run(at_s)
            return made

        return script

    return make


def _node(name: str, fingerprint: str = "aaaaaaaaaaaa", **target: str) -> Callable[[], Node]:
    return lambda: Node(name, fingerprint=fingerprint, target=target)


def _gone(*, wanted: tuple[int, int] | None = None) -> Callable[[], Script]:
    """Service discovery finds nothing after ten minutes; what Kubernetes wants before and after."""

    def make() -> Script:
        node = Node("node-1")

        def script(at_s: float) -> Iterable[Target]:
            if due(at_s, 240):
                node.run(at_s)
            pods = [WantedPods(wanted[at_s >= 600])] if wanted else []
            return (*pods, node) if at_s < 600 else pods

        return script

    return make


def _never_there(pods: int) -> Callable[[], Script]:
    return lambda: lambda _: (WantedPods(pods),)


def _all_down() -> Script:
    node = Node("node-1")

    def script(at_s: float) -> Iterable[Target]:
        if due(at_s):
            node.run(at_s)
        node.up = at_s < 600
        return (node,)

    return script


def _files_beside_daemons(*, wanted: int = 0) -> Callable[[], Script]:
    """A node that writes a file, beside a daemon that answers for half an hour.

    Then it is down or, where Kubernetes wants so many pods, no target any more.
    """

    def make() -> Script:
        node, file = Node("node-1"), TextfileNode("login:9100")

        def script(at_s: float) -> Iterable[Target]:
            if due(at_s):
                node.run(at_s)
            if due(at_s, 3600):
                file.run(at_s)
            node.up = at_s < 1800
            pods = (WantedPods(wanted),) if wanted else ()
            return (*pods, file, *(() if wanted and not node.up else (node,)))

        return script

    return make


def _two_clusters() -> Script:
    """Nodes of one name in two clusters: one is sick, the whole other one goes away."""
    east, west = (Node("node-1", target={"cluster": name}) for name in ("east", "west"))

    def script(at_s: float) -> Iterable[Target]:
        if due(at_s):
            east.run(at_s, SICK)
            west.run(at_s)
        west.up = at_s < 600
        return east, west

    return script


def _renamed_job() -> Script:
    """Prometheus calls the scrape job otherwise from half an hour on."""
    node = Node("node-1")

    def script(at_s: float) -> Iterable[Target]:
        if due(at_s):
            node.run(at_s)
        node.target = {"job": "gpu-validator-daemons"} if at_s >= 1800 else {}
        return (node,)

    return script


def _replaced_by_a_stranger() -> Script:
    """From ten minutes on another program answers on one node."""
    one, two = Node("node-1"), Node("node-2")

    def script(at_s: float) -> Iterable[Target]:
        if due(at_s):
            one.run(at_s)
            two.run(at_s)
        return (one if at_s < 600 else Stranger("node-1")), two

    return script


ABSENT = Firing(
    "GpuValidatorAbsent",
    instance=None,
    job=None,
    severity="critical",
    summary="validators that should report do not",
)
_NO_TARGETS = Firing(
    "GpuValidatorNoTargets",
    instance=None,
    summary="gpu-env-validator: all its targets are gone",
    description="Scaled to nothing, or service discovery finds nothing any more. It had 1 within "
    "six hours, and this ends when they are over. Set fleet:gpu_validator_nodes:expected, or "
    "scrape kube-state-metrics, to have GpuValidatorAbsent tell the two apart.",
)


def _drift(**labels: str) -> Firing:
    return Firing("GpuValidatorEnvironmentDrift", instance=None, labels=labels)


FLEETS: dict[str, Case] = {
    "two-pools-of-two-environments": Case(
        _here(
            _node("node-1", pool="a100"),
            _node("node-2", pool="a100"),
            _node("node-3", _OTHER, pool="h100"),
            _node("node-4", _OTHER, pool="h100"),
        ),
        {400: ()},
        step=4,
    ),
    "a-mixed-pool": Case(
        _here(
            _node("node-1", pool="a100"),
            _node("node-2", pool="h100"),
            _node("node-3", _OTHER, pool="h100"),
        ),
        {
            356: (),
            400: (
                Firing(
                    "GpuValidatorEnvironmentDrift",
                    instance=None,
                    labels={"pool": "h100"},
                    summary="gpu-env-validator, pool h100: nodes compute with 2 different "
                    "environments",
                    description="One job over several of them mixes versions: "
                    "1 nodes aaaaaaaaaaaa (torch 2.13.0, driver 570.1) "
                    "1 nodes bbbbbbbbbbbb (torch 2.13.0, driver 570.1) ",
                ),
            ),
        },
        step=4,
    ),
    # The odd one starts again every two hours, and says nothing for eight minutes.
    "drift-of-a-node-that-restarts": Case(
        _here(_node("node-1"), _node("node-2", _OTHER), odd_starts_s=7200),
        {400: (_drift(),)},
        step=4,
    ),
    "discovery-finds-nothing": Case(
        _gone(), {16: (), 28: (_NO_TARGETS,), 366: (_NO_TARGETS,), 384: ()}, step=2
    ),
    "scaled-to-nothing": Case(_gone(wanted=(1, 0)), {28: (), 60: ()}, step=2),
    "pods-that-nobody-scrapes": Case(
        _gone(wanted=(1, 1)),
        {
            16: (),
            28: (Firing("GpuValidatorNoTargets", instance=None),),
            34: (ABSENT, Firing("GpuValidatorNoTargets", instance=None)),
        },
        step=2,
    ),
    "never-scraped": Case(_never_there(3), {19: (), 21: (ABSENT,), 60: (ABSENT,)}),
    "never-wanted": Case(_never_there(0), {60: ()}),
    # As long as the only node of a site may reboot.
    "all-are-down": Case(_all_down, {14: (), 29: (DOWN,), 31: (ABSENT, DOWN)}),
    # A node without a daemon writes a file: that one is watched says nothing of the others.
    "a-file-is-no-daemon": Case(
        _files_beside_daemons(), {28: (), 46: (DOWN,), 54: (ABSENT, DOWN)}, step=2
    ),
    "a-file-is-no-wanted-pod": Case(
        _files_beside_daemons(wanted=3),
        {28: (), 44: (_NO_TARGETS,), 54: (ABSENT, _NO_TARGETS)},
        step=2,
    ),
    "a-job-is-renamed": Case(_renamed_job, {42: (), 80: ()}),
    "another-program-answers": Case(_replaced_by_a_stranger, {14: (), 16: (DOWN,), 40: (DOWN,)}),
    "two-clusters": Case(
        _two_clusters,
        {
            31: (
                failed(labels={"cluster": "east"}),
                Firing("GpuValidatorDown", labels={"cluster": "west"}),
                Firing(
                    "GpuValidatorAbsent",
                    instance=None,
                    job=None,
                    severity="critical",
                    labels={"cluster": "west"},
                    summary="west: validators that should report do not",
                ),
            )
        },
    ),
}
