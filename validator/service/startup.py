"""What a start and a first run need of the settings, looked at without starting anything."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from probes.catalog import BY_NAME
from validator.engine.devices import may_be_accelerator
from validator.engine.plan import make_plan, refuse_nothing
from validator.loading import Complaint
from validator.report import CPU
from validator.service.schedule import timings
from validator.service.statusfiles import StatusFiles
from validator.service.token import ids_of, token_of
from validator.settings import Settings, SettingsError, host_port, socket_path

_T = TypeVar("_T")

#: What a look at a host's name or a folder may take: a server or disk that is gone never answers.
_LOOK_S: Final = 1.0


def of_a_run(settings: Settings) -> Iterator[Complaint]:
    """What no run, and no schedule of runs, could be made of."""
    for name in settings.schedule:
        yield from _refused(timings, settings, [BY_NAME[name]])
    yield from _refused(refuse_nothing, make_plan(settings, "schedule"))
    for device in settings.run.devices:
        if device.strip().lower() != CPU.type and not may_be_accelerator(device):
            text = f"{device!r} is no device's name; write cuda:0, a UUID, a PCI id or cpu"
            yield ["run", "devices"], f"run.devices: {text}"


def of_a_daemon(settings: Settings) -> Iterator[Complaint]:
    """The same, and what the daemon could not have on this machine: folders and addresses."""
    yield from of_a_run(settings)
    places = {
        ("files", "ready"): settings.files.ready,
        ("files", "nfd"): settings.files.nfd,
        ("web", "unix_socket"): socket_path(settings.web),
    }
    taken: dict[Path, str] = {}
    wrong = False
    for path, place in places.items():
        if place is None:
            continue
        key, file = ".".join(path), Path(place)
        if file in taken:
            wrong = True
            yield list(path), f"{key}: {file} is {taken[file]} too; give each a path of its own"
        taken[file] = key
        if why := _in_time(_unusable, file, f"no answer from {file}"):
            wrong = True
            yield list(path), f"{key}: {why}"
    for problem in () if wrong else StatusFiles(settings.files).problems():
        yield ["files"], f"files: {problem}"
    yield from _refused(token_of, settings.web)
    owner = settings.web.socket_owner
    if owner is not None and (why := _in_time(_unknown, owner, "it is not told who that is")):
        yield ["web", "socket_owner"], f"web.socket_owner: {why}"
    yield from _addresses(settings)


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


def _unknown(user: str) -> str:
    """Why nobody is meant by a user; empty where somebody is."""
    return "" if ids_of(user) else f"there is no user {user!r} here; write a name or a number"


def _addresses(settings: Settings) -> Iterator[Complaint]:
    path, taken = ["web", "listen_address"], set[tuple[str, int]]()
    for address in settings.web.listen_address:
        host, port = host_port(address)
        clash = {("", port), (host, port)} & taken if host else {t for t in taken if t[1] == port}
        if port and clash:
            text = f"{address} is listened on by another of them already; keep one"
            yield path, f"web.listen_address: {text}"
        taken.add((host, port))
        if host and (why := _in_time(_not_ours, host, f"{host} is not resolved")):
            yield path, f"web.listen_address: cannot listen on {address}: {why}"


def _not_ours(host: str) -> str:
    """Why nobody can listen on a host's address here; empty where one can."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, target in found:
            with socket.socket(family, kind, protocol) as made:
                made.bind(target)  # port 0: one that nobody has
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return f"{why}; write an address of this machine, or none before the colon for all"
    return ""


def _in_time(look: Callable[[_T], str], at: _T, otherwise: str) -> str:
    """What a look gives; where it takes too long, what stands for it. Its thread is left behind."""
    answers: list[str] = []
    looking = threading.Thread(target=lambda: answers.append(look(at)), daemon=True)
    try:
        looking.start()
    except RuntimeError:  # a limit on threads or memory: without a deadline, then
        return look(at)
    looking.join(_LOOK_S)
    return answers[0] if answers else f"{otherwise} within {_LOOK_S:g} s"
