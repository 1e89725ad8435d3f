"""What a file system or a directory of users may never answer, with a deadline."""

import threading
from collections.abc import Callable
from typing import Final, TypeVar

_T = TypeVar("_T")

#: For what a start needs; a server that is gone never answers.
ANSWER_S: Final = 10.0


def in_time(act: Callable[[], _T], seconds: float) -> _T:
    """What an act gives or raises; where it takes longer, its thread is left behind.

    Where a limit refuses the thread, the act has no deadline.

    Raises:
        TimeoutError: it has not ended within so many seconds.
    """
    given: list[_T] = []
    raised: list[BaseException] = []

    def go() -> None:
        try:
            given.append(act())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            raised.append(error)

    thread = threading.Thread(target=go, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return act()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not given:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return given[0]
