"""The model of a fault: its name, the real event it stands for, and the checks that must trip."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from probes.contract import Reason

Kind = Literal["control", "operation", "transfer", "semantics", "process", "environment", "import"]

#: `any`: on each device. `cpu`: on the CPU alone. `accelerator`: on each device but the CPU.
#: `host`: once, under probes that need no device. `node`: once, on a pretended node of two GPUs.
#: `worker`: once, in a worker of its own.
Where = Literal["any", "cpu", "accelerator", "host", "node", "worker"]


#: Modules of injections that simulate another machine.
_PRETENDED: Final = ("node.", "health.", "surroundings.", "companions.", "tensor_units.")


#: The first release of torch in which a kernel can be replaced by one that calls it.
_KERNELS_SINCE: Final = "2.9"


class Event(NamedTuple):
    """An event on real machines, and the URL that describes it."""

    text: str
    source: str


@dataclass(frozen=True)
class Injection:
    """A function of `probes.faults.inject`, as `module.function`, and its arguments."""

    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    #: Whether it also gets the device, as argument `device`.
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
    #: Ids of checks that must not trip, so that only the broken part is blamed.
    spares: tuple[str, ...] = ()
    #: The expected reason of the first probe's result; empty if only the checks count.
    reason: Reason | Literal[""] = ""
    #: Deadline of a probe under this fault, in seconds; 0: the catalogue's.
    timeout_s: float = 0.0
    #: The number of GPUs that the settings expect; None: `auto`.
    promised_gpus: int | None = None
    #: Whether the worker is told that others use the device's memory.
    shared: bool = False
    #: Files put first on the path of a separate worker: name -> content.
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def probes(self) -> tuple[str, ...]:
        """The probes to run under the fault: those of its checks."""
        names = (check.partition(".")[0] for check in (*self.trips, *self.spares))
        return tuple(dict.fromkeys(names))

    @property
    def pretends(self) -> bool:
        """Whether the fault simulates another machine: checks then say nothing about this one."""
        return any(injection.function.startswith(_PRETENDED) for injection in self.inject)

    @property
    def since(self) -> str:
        """The first release of torch that it can be injected into; empty: every supported one."""
        kernels = any(injection.function.startswith("kernels.") for injection in self.inject)
        return _KERNELS_SINCE if kernels else ""

    @property
    def device(self) -> str:
        """The device that it is always injected on; empty if that depends on the machine."""
        return {"node": "cuda:1", "host": "cpu", "cpu": "cpu", "worker": "cpu"}.get(self.where, "")
