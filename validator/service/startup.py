"""What a start and a first run need of the settings, looked at without starting anything."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from probes.catalog import BY_NAME
from validator.engine.devices import why_no_name
from validator.engine.plan import make_plan, refuse_nothing
from validator.in_time import in_time
from validator.service import failedfile
from validator.service.schedule import timings
from validator.service.statusfiles import StatusFiles
from validator.service.token import ids_of, token_in_time
from validator.settings.loading import Complaint
from validator.settings.model import Files, Settings, socket_path
from validator.settings.values import SettingsError, host_port

_T = TypeVar("_T")

_Address = tuple[int, str]  # family, address
_WILDCARDS: Final[frozenset[_Address]] = frozenset(
    {(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")}  # noqa: S104 - to be told from others
)

#: What a look at a host's name or a folder may take: a server or disk that is gone never answers.
_LOOK_S: Final = 1.0


def of_a_run(settings: Settings) -> Iterator[Complaint]:
    """What no run, and no schedule of runs, could be made of."""
    for name in settings.schedule:
        yield from _refused(timings, settings, [BY_NAME[name]])
    yield from _refused(refuse_nothing, make_plan(settings, "schedule"))
    yield from of_devices(settings)


def of_devices(settings: Settings) -> Iterator[Complaint]:
    """Names that can be no device's: to ask for one that is not there is a promise, a typo none."""
    for device in settings.run.devices:
        if why := why_no_name(device):
            yield ["run", "devices"], f"run.devices: {why}"


def of_a_daemon(settings: Settings) -> Iterator[Complaint]:
    """The same, and what the daemon could not have on this machine: folders and addresses."""
    yield from of_a_run(settings)
    places = {
        ("files", "ready"): settings.files.ready,
        ("files", "nfd"): settings.files.nfd,
        ("files", "failed"): settings.files.failed,
        ("web", "unix_socket"): socket_path(settings.web),
    }
    taken: dict[str, str] = {}
    wrong = False
    for path, place in places.items():
        if place is None:
            continue
        key, file = ".".join(path), Path(place)
        look = _unusable_for_socket if path[-1] == "unix_socket" else _unusable
        if why := _in_time(look, file, f"no answer from {file}"):
            wrong = True
            yield list(path), f"{key}: {why}"
            continue
        real = str(Path(os.path.realpath(file.parent), file.name))
        if real in taken:
            wrong = True
            yield list(path), f"{key}: {file} is {taken[real]} too; give each a path of its own"
        taken[real] = key
    for problem in () if wrong else _not_ours(settings.files):
        yield ["files"], f"files: {problem}"
    yield from _refused(token_in_time, settings.web)
    owner = settings.web.socket_owner
    if owner is not None and (why := _in_time(_unknown, owner, "it is not told who that is")):
        yield ["web", "socket_owner"], f"web.socket_owner: {why}"
    yield from _addresses(settings)


def _not_ours(files: Files) -> list[str]:
    return [*StatusFiles(files).problems(), *failedfile.problems(files.failed)]


def _refused(act: Callable[..., object], *arguments: object) -> Iterator[Complaint]:
    """What an act of start-up is refused with; its text begins with the key."""
    try:
        act(*arguments)
    except SettingsError as error:
        key = str(error).partition(":")[0]
        yield key.split("."), str(error)


def _unusable(place: Path) -> str:
    """Why no file can be put at a path; empty where it can."""
    folder = place.parent
    try:
        if not folder.is_dir():
            is_there = folder.exists()
            what = f"{folder} is no folder" if is_there else f"there is no folder {folder}"
            return f"{what}; make it, or write another path"
        if place.is_dir():
            return f"{place} is a folder; write the path of a file in it"
        read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
    except OSError as error:
        return f"{folder}: {error.strerror}; write a path that this user may enter"
    if read_only:
        return f"{folder} is read-only; mount it for writing, or write another path"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"this user may not write into {folder}; change its owner or mode"
    return ""


def _unusable_for_socket(place: Path) -> str:
    """The same of a unix socket, which takes the place of a dead one alone."""
    why = _unusable(place)
    if not why and os.path.lexists(place) and not place.is_socket():
        return f"{place} exists and is no socket; remove it, or write another path"
    return why


def _unknown(user: str) -> str:
    """Why nobody is meant by a user; empty where somebody is."""
    return "" if ids_of(user) else f"there is no user {user!r} here; write a name or a number"


def _addresses(settings: Settings) -> Iterator[Complaint]:
    path = ["web", "listen_address"]
    taken: list[tuple[int, frozenset[_Address]]] = []
    for address in settings.web.listen_address:
        host, port = host_port(address)
        try:
            own = in_time(lambda host=host: _own_addresses(host), _LOOK_S)  # type: ignore[misc]
        except TimeoutError:
            why = f"{host} is not resolved within {_LOOK_S:g} s"
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            why += "; write an address of this machine, or none before the colon for all"
        else:
            if port and any(port == number and _overlap(own, other) for number, other in taken):
                text = f"{address} is listened on by another of them already; keep one"
                yield path, f"web.listen_address: {text}"
            taken.append((port, own))
            continue
        yield path, f"web.listen_address: cannot listen on {address}: {why}"


def _own_addresses(host: str) -> frozenset[_Address]:
    """What a host's name stands for here; both wildcards for none.

    Raises:
        OSError: it stands for nothing, or for an address that nobody can listen on here.
        UnicodeError: it is no host's name.
    """
    if not host:
        return _WILDCARDS
    found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, target in found:
        with socket.socket(family, kind, protocol) as made:
            made.bind(target)  # port 0: one that nobody has
    return frozenset((family, str(target[0])) for family, _, _, _, target in found)


def _overlap(one: frozenset[_Address], other: frozenset[_Address]) -> bool:
    """Whether two hosts on one port are in each other's way."""
    families = {family for family, _ in one} & {family for family, _ in other}
    wild = {family for family, _ in _WILDCARDS & (one | other)}
    return bool(one & other or families & wild)


def _in_time(look: Callable[[_T], str], at: _T, otherwise: str) -> str:
    """What a look gives; where it takes too long, what stands for it."""
    try:
        return in_time(lambda: look(at), _LOOK_S)
    except TimeoutError:
        return f"{otherwise} within {_LOOK_S:g} s"
