"""What the jobs of a run share."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from probes.contract import Result
from validator.engine import cgroup
from validator.engine.attribution import blame_host_limits
from validator.engine.child import Child
from validator.engine.clock import now
from validator.engine.crowd import Crowd
from validator.engine.ends import HeldProcess
from validator.engine.hangs import DeviceHangs
from validator.engine.plan import Event
from validator.engine.siblings import with_words
from validator.engine.supervisor import Worker
from validator.engine.tenants import Tenants
from validator.engine.workers import Workers
from validator.settings.model import Settings


class RunContext:
    """What all jobs of a run share."""

    def __init__(  # noqa: PLR0913 - each is of the run, and few are given by name
        self,
        settings: Settings,
        workers: Workers,
        held: dict[str, HeldProcess],
        on_event: Callable[[Event], None],
        *,
        fault: str | None = None,
        left_out: Mapping[str, Sequence[str]] | None = None,
        results: dict[tuple[str, str], Result] | None = None,
        place: str = "",
        tenants: Tenants | None = None,
        starts_until_s: float | None = None,
    ) -> None:
        """Create it; a device whose process cannot be killed goes into `held`, the runner's own.

        Under a fault every child injects it into itself, and every result carries its name.
        `left_out`: the checks of a probe that are not made. `results` is what others fill too.
        `place` keeps a hang and a held process apart from those of the same device elsewhere.
        `tenants` knows who comes to a device. No probe starts on one after `starts_until_s`.
        """
        self.settings = settings
        self.workers = workers
        self.held = held
        self.on_event = on_event
        self.fault = fault
        self.left_out = left_out or {}
        self.results = {} if results is None else results
        self._place = place
        self.tenants = Tenants(workers, held, on_event) if tenants is None else tenants
        self._starts_until_s = starts_until_s
        self._crowd = Crowd()
        self.cores = cgroup.cores()
        self.slots = asyncio.Semaphore(self.cores)  # children side by side
        self.hangs = DeviceHangs()
        self.memory_kills = cgroup.memory_kills()

    def record(self, result: Result) -> None:
        """Keep a result and send the event; what the host refused becomes an error of the host."""
        result = blame_host_limits(result)
        if self.fault is not None:
            result = result.model_copy(update={"fault": self.fault})
        if not self.settings.run.observations:
            result = self._crowd.shortened(result)
        self.results[result.probe, result.device] = result
        told = with_words(result)
        self.on_event(Event("finished", probe=result.probe, device=result.device, result=told))

    def is_over(self) -> bool:
        """Whether no probe starts any more."""
        return self._starts_until_s is not None and now() >= self._starts_until_s

    def is_held(self, device_name: str) -> bool:
        """Whether a process which cannot be killed holds the device."""
        return f"{device_name}{self._place}" in self.held

    def abandon(self, worker: Worker, child: Child, device_name: str, obstacle: str = "") -> None:
        """Remember that a process which cannot be killed holds a device; `obstacle`: what holds it.

        Without one the driver does.
        """
        held = HeldProcess(child.pid, worker.abandon(child), obstacle)
        self.held[f"{device_name}{self._place}"] = held
        text = f"process {child.pid} cannot be killed"
        self.on_event(Event("held", device=device_name, text=text))
