"""The sockets that the daemon listens on: TCP addresses, and a unix socket beside them."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from validator.service import logs
from validator.settings.model import Web
from validator.settings.values import ABSTRACT, SettingsError, host_port, socket_address

#: What the kernel may keep of answers that a client does not read, half of it for its own use.
_SEND_BYTES: Final = 128 * 1024


@contextlib.contextmanager
def listening(web: Web) -> Iterator[list[socket.socket]]:
    """All sockets of the settings; when the block ends they are closed, and the path is gone.

    Raises:
        SettingsError: naming what cannot be had, and why.
    """
    with contextlib.ExitStack() as stack:
        sockets = listen(web.listen_address)
        for one in sockets:
            stack.callback(one.close)
        if web.unix_socket is None:
            pass
        elif not web.unix_socket.startswith(ABSTRACT):
            mode = int(web.unix_socket_mode, 8)
            sockets += stack.enter_context(_listen_at_path(web.unix_socket, mode))
        elif (made := _listen_by_name(web)) is not None:
            stack.callback(made.close)
            sockets.append(made)
        yield sockets


def address_of(one: socket.socket) -> str:
    """Where a socket listens, as its setting is written."""
    name = one.getsockname()
    if one.family == socket.AF_UNIX:
        return f"unix:{name}" if isinstance(name, str) else f"unix:{ABSTRACT}{name[1:].decode()}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(addresses: Sequence[str]) -> list[socket.socket]:
    """Sockets for all addresses; an empty host is every interface, IPv4 and IPv6."""
    sockets: list[socket.socket] = []
    for address in addresses:
        host, port = host_port(address)
        try:
            if not host:
                both = socket.has_dualstack_ipv6()
                family = socket.AF_INET6 if both else socket.AF_INET
                made = [socket.create_server(("", port), family=family, dualstack_ipv6=both)]
            else:
                found = socket.getaddrinfo(
                    host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )
                targets = dict.fromkeys((family, target) for family, _, _, _, target in found)
                made = [socket.create_server(to, family=family) for family, to in targets]
        except (OSError, UnicodeError) as error:
            for one in sockets:
                one.close()
            text = getattr(error, "strerror", None) or str(error)
            raise SettingsError(
                f"web.listen_address: cannot listen on {address}: {text}"
            ) from error
        for one in made:  # and so of each connection, where else the kernel takes megabytes
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        sockets += made
    return sockets


def _listen_by_name(web: Web) -> socket.socket | None:
    """A socket without a file; None where another has the name that nobody has chosen."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(socket_address(str(web.unix_socket)))
        made.listen()
    except OSError as error:
        made.close()
        text = error.strerror or str(error)
        why = f"web.unix_socket: cannot listen on {web.unix_socket}: {text}"
        if "unix_socket" in web.model_fields_set:
            raise SettingsError(why) from error
        logs.log().warning("unix_socket", error=why)
        return None
    return made


@contextlib.contextmanager
def _listen_at_path(path: str, mode: int) -> Iterator[list[socket.socket]]:
    """A socket at a path; gone when the block ends."""
    place = Path(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        try:
            _clear(place)
            umask = os.umask(0o777 & ~mode)  # never there with other permissions, not for a moment
            try:
                made.bind(path)
            finally:
                os.umask(umask)
            made.listen()
            mine = place.stat().st_ino
        except OSError as error:
            text = error.strerror or str(error)
            raise SettingsError(f"web.unix_socket: cannot listen on {path}: {text}") from error
        try:
            yield [made]
        finally:
            with contextlib.suppress(FileNotFoundError):
                if place.stat().st_ino == mine:  # and not of a daemon that took our place
                    place.unlink()


def _clear(place: Path) -> None:
    """Remove a dead daemon's socket; raise OSError where something else stands there."""
    if not os.path.lexists(place):
        return
    if not place.is_socket():
        raise FileExistsError(errno.EEXIST, "it exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(1.0)
        try:
            caller.connect(str(place))
        except ConnectionRefusedError:  # nobody listens
            place.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, "another process listens on it")
