"""How a process of a run ended, and what else its owner is told instead of a result."""

import signal
from dataclasses import dataclass
from typing import Final

from validator.engine.stall import Stall

#: Signals that others send, and no code to itself.
_FROM_OUTSIDE: Final = frozenset(
    {
        signal.SIGKILL,
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGALRM,
        signal.SIGPWR,
    }
)


@dataclass(frozen=True)
class Exit:
    """How a process ended: one of the two is None."""

    code: int | None = None
    signal: int | None = None

    @property
    def by_others(self) -> bool:
        """Whether a signal ended it that others send, and no code to itself."""
        return self.signal in _FROM_OUTSIDE

    def __str__(self) -> str:
        if self.signal is None:
            return f"exited with code {self.code}"
        try:
            return f"died by {signal.Signals(self.signal).name}"
        except ValueError:  # a real-time signal
            return f"died by signal {self.signal}"


@dataclass(frozen=True)
class ChildEnded:
    """The child is over and its pipe is empty; `partial` is what was written of a last line."""

    partial: bytes


@dataclass(frozen=True)
class GiveWay:
    """Somebody else has come to the device: the child is to leave it; `who` says who came."""

    who: str


@dataclass(frozen=True)
class HeldProcess:
    """A process that SIGKILL does not end, so that nothing is started on its device."""

    pid: int
    pidfd: int
    obstacle: str = ""  # what else than a driver holds it, in words


class WorkerLostError(Exception):
    """The worker died, or gave no reply in time. `reason` is `died` or `hung`."""

    def __init__(
        self,
        reason: str,
        text: str,
        log_tail: str,
        *,
        end: Exit | None = None,
        stalled_at: Stall | None = None,
    ) -> None:
        """Create the error; `end` is given where it died, `stalled_at` where it hung."""
        super().__init__(text)
        self.reason = reason
        self.log_tail = log_tail
        self.end = end
        self.stalled_at = stalled_at
