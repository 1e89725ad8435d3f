"""What a fault is: a named break, the real event it stands for, and what must be said of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from probes.contract import Reason

Kind = Literal["control", "operation", "transfer", "semantics", "process", "environment", "import"]

#: `any`: on each device. `cpu`: on the CPU alone. `accelerator`: on each device but the CPU.
#: `host`: once, under probes that need no device. `node`: once, on a pretended node of two GPUs.
#: `worker`: once, in a worker of its own.
Where = Literal["any", "cpu", "accelerator", "host", "node", "worker"]


class Event(NamedTuple):
    """What happens on real machines, and where that is written down."""

    text: str
    source: str


@dataclass(frozen=True)
class Injection:
    """A function of `probes.faults.inject`, as `module.function`, and what it is called with."""

    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    #: Whether it is told the device, as `device`.
    on_device: bool = False


@dataclass(frozen=True)
class Fault:
    """One way to break the environment. `name` is stable."""

    name: str
    kind: Kind
    where: Where
    event: Event
    inject: tuple[Injection, ...]
    #: Ids of checks; each must fail, warn or be an error.
    trips: tuple[str, ...]
    #: Ids of checks that must not trip: what is blamed must be what is broken.
    spares: tuple[str, ...] = ()
    #: Why the first probe's result is what it must be; empty when only the checks count.
    reason: Reason | Literal[""] = ""
    #: A probe's deadline under this fault, in seconds; 0 leaves the catalogue's.
    timeout_s: float = 0.0
    #: How many GPUs the node is said to have; None leaves what is found.
    promised_gpus: int | None = None
    #: Whether others are said to hold the device's memory.
    shared: bool = False
    #: Files to put before all others on the path of a worker of its own: name -> content.
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def probes(self) -> tuple[str, ...]:
        """Names of the probes to run under it: those of the checks it names."""
        names = (check.partition(".")[0] for check in (*self.trips, *self.spares))
        return tuple(dict.fromkeys(names))

    @property
    def pretends(self) -> bool:
        """Whether the machine is another one under it: what applies here says nothing then."""
        return any(injection.function.startswith("node.") for injection in self.inject)

    @property
    def device(self) -> str:
        """Where it is injected when that is one place whatever the machine; else empty."""
        return {"node": "cuda:1", "host": "cpu", "cpu": "cpu", "worker": "cpu"}.get(self.where, "")
