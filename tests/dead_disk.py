"""A file system whose server is gone: what asks it waits, as on an NFS mount without its server.

Whoever waits can be killed; not so where the server takes requests, and answers none.
"""

import contextlib
import ctypes
import os
import select
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_INIT: Final = 26  # of linux/fuse.h, as the layouts below
_HEADER: Final = struct.Struct("<IIQ")  # of a request: length, operation, number
_ANSWER: Final = struct.Struct("<IiQ")  # length, error, number
_INIT_ANSWER: Final = struct.Struct("<IIIIHHIIHHI24x")
_DETACH: Final = 2  # of umount2(2)
_REQUEST_BYTES: Final = 1 << 17  # the largest that a server of these answers must take

#: After which whoever still waits is let go of, so that a test of what has no deadline fails.
_LONGEST_S: Final = 60.0


@contextlib.contextmanager
def mounted(folder: Path, *, takes: bool = False) -> Iterator[None]:
    """Mount it at a folder; the end lets go of whoever waits, and a minute does.

    Args:
        folder: where.
        takes: take requests, so that not even SIGKILL ends whoever waits.

    Raises:
        OSError: this is not allowed here.
    """
    library = ctypes.CDLL(None, use_errno=True)
    server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    open_ones = [server]

    over = threading.Event()

    def take() -> None:
        while not over.is_set():
            if select.select([server], [], [], 0.02)[0]:
                os.read(server, _REQUEST_BYTES)

    taker = threading.Thread(target=take)

    def let_go() -> None:
        over.set()
        if taker.is_alive():
            taker.join()
        with contextlib.suppress(IndexError):
            os.close(open_ones.pop())

    watch = threading.Timer(_LONGEST_S, let_go)
    watch.daemon = True
    watch.start()
    try:
        options = f"fd={server},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        if library.mount(b"dead", bytes(folder), b"fuse", 0, options):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        _answer_first_request(server)
        if takes:
            taker.start()
        yield
    finally:
        watch.cancel()
        let_go()
        library.umount2(bytes(folder), _DETACH)


def _answer_first_request(server: int) -> None:
    """The kernel asks nothing else before it has an answer to that."""
    _, operation, number = _HEADER.unpack(os.read(server, 65536)[: _HEADER.size])
    assert operation == _INIT
    body = _INIT_ANSWER.pack(7, 31, 65536, 0, 12, 10, 65536, 1, 0, 0, 0)
    os.write(server, _ANSWER.pack(_ANSWER.size + len(body), 0, number) + body)
