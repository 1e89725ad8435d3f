"""The command `healthcheck`: asks a running daemon whether it is well, in bounded time."""

import http.client
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from urllib.parse import urlsplit

_DEADLINE_S = 5.0


def ask(url: str) -> str:
    """GET a daemon's /healthz; what is wrong, or an empty text when it is well.

    http.client and not urllib: a proxy named in the environment knows nothing of this host.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_DEADLINE_S)
    path = parts.path if parts.path not in {"", "/"} else "/healthz"
    try:
        with _deadline():
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            line = response.read(200).decode(errors="replace").partition("\n")[0]
    except TimeoutError:
        return f"{url} gave no answer in {_DEADLINE_S:g} s"
    except (OSError, http.client.HTTPException) as error:
        return f"{url} cannot be asked: {error}"
    finally:
        connection.close()
    return "" if response.status == 200 else f"{url} answered {response.status}: {line}"


@contextmanager
def _deadline() -> Iterator[None]:
    """Raise TimeoutError when all of it takes too long; a socket's own limit is for each step."""

    def expire(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, _DEADLINE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def usable(url: str) -> bool:
    """Whether a URL names a host over plain HTTP."""
    parts = urlsplit(url)
    try:
        return parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port
        return False


def url_of(host: str, port: int) -> str:
    """Where to ask a daemon that listens there; every interface is asked on the loopback."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
