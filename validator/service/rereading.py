"""Reads something again when asked to, in a thread: a file that is never answered stops nobody."""

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")

#: A file that takes longer is said not to answer; it is taken over when it does.
_SLOW_S: Final = 10.0


class _Try(Generic[_T]):
    """One reading: what it gave or raised, once its thread is over."""

    def __init__(self, read: Callable[[], _T], began_s: float) -> None:
        self.began_s = began_s
        self.is_told = False  # that it is slow
        self.given: list[_T] = []
        self.raised: list[BaseException] = []
        self._read = read
        threading.Thread(target=self._go, name="settings", daemon=True).start()

    def _go(self) -> None:
        try:
            self.given.append(self._read())
        except BaseException as error:  # noqa: BLE001 - raised where it is taken
            self.raised.append(error)


class Rereading(Generic[_T]):
    """One reading at a time. Asked for meanwhile, however often, it is done once more."""

    def __init__(
        self, read: Callable[[], _T], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Create it; nothing is read yet."""
        self._read, self._monotonic = read, monotonic
        self._try: _Try[_T] | None = None
        self._is_wanted = False

    @property
    def is_pending(self) -> bool:
        """Whether something that was asked for has not been taken."""
        return self._is_wanted or self._try is not None

    def ask(self) -> None:
        """Have it read soon."""
        self._is_wanted = True
        self._start()

    def take(self) -> _T | None:
        """What was read; None while there is nothing. If asked for since, it is read once more.

        Raises:
            TimeoutError: it is slow; raised once.
            BaseException: what reading it raised.
        """
        self._start()
        done = self._try
        if done is None:
            return None
        if not (done.given or done.raised):
            if self._monotonic() - done.began_s > _SLOW_S and not done.is_told:
                done.is_told = True
                raise TimeoutError(f"no answer for {_SLOW_S:g} s")
            return None
        self._try = None
        self._start()
        if done.raised:
            raise done.raised[0]
        return done.given[0]

    def _start(self) -> None:
        if self._is_wanted and self._try is None:
            try:
                self._try = _Try(self._read, self._monotonic())
            except RuntimeError:  # a limit on threads; the next `take` tries again
                return
            self._is_wanted = False
