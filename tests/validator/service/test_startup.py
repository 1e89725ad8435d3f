"""What a start and a first run need of the settings is told before, with its key and its cure."""

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.validator.service.fake_runner import FakeRunner, reload
from validator.service import logs, startup
from validator.service.daemon import Daemon
from validator.settings import loading
from validator.settings.loading import load
from validator.settings.values import SettingsError


def told(flags: Mapping[str, Any], needs: Any = startup.of_a_daemon) -> str:
    """What is wrong; empty where nothing is."""
    try:
        load(None, flags, needs)
    except SettingsError as error:
        return str(error)
    return ""


@pytest.fixture
def place(tmp_path: Path) -> Callable[[str], str]:
    """Makes a path in a folder that holds a file and a folder."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    return lambda name: str(tmp_path / name)


@pytest.mark.parametrize("key", ["files.ready", "files.nfd", "files.failed", "web.unix_socket"])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("ready", ""),
        ("none/ready", "there is no folder {}/none; make it, or write another path"),
        ("file/ready", "{}/file is no folder; make it, or write another path"),
        ("folder", "{}/folder is a folder; write the path of a file in it"),
    ],
)
def test_places_of_files(
    key: str, name: str, why: str, place: Callable[[str], str], tmp_path: Path
) -> None:
    """Of the daemon alone: a check never writes them."""
    section, field = key.split(".")
    flags = {section: {field: place(name)}}

    assert told(flags) == (f"{key}: {why.format(tmp_path)}" if why else "")
    assert told(flags, startup.of_a_run) == ""


def test_a_folder_without_permission(
    place: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever reads the line may not be root."""
    monkeypatch.setattr(os, "access", lambda *_: False)

    assert told({"files": {"ready": place("ready")}}) == (
        f"files.ready: this user may not write into {tmp_path}; change its owner or mode"
    )


@pytest.mark.parametrize("other", ["./a", "folder/../a", "folder/link/a"])
def test_one_path_for_two_files(place: Callable[[str], str], other: str) -> None:
    """Each would take the other's away."""
    Path(place("folder/link")).symlink_to(place("."))
    flags = {"files": {"ready": place("a"), "nfd": place(other)}}

    assert "files.nfd: " in told(flags)
    assert "is files.ready too; give each a path of its own" in told(flags)


@pytest.mark.parametrize(
    ("addresses", "why"),
    [
        (["127.0.0.1:0", "[::1]:0", "localhost:0", ":0"], ""),
        (["192.0.2.1:8790"], "cannot listen on 192.0.2.1:8790: Cannot assign requested address"),
        (["a..b:8790"], "cannot listen on a..b:8790: "),
        ([":8790", ":8790"], ":8790 is listened on by another of them already; keep one"),
        ([":8790", "127.0.0.1:8790"], "127.0.0.1:8790 is listened on by another of them"),
        (["127.0.0.1:8790", ":8790"], ":8790 is listened on by another of them"),
        (["127.0.0.1:8790", "127.0.0.1:8791"], ""),
        (["localhost:8790", "127.0.0.1:8790"], "127.0.0.1:8790 is listened on by another of them"),
        (["127.0.0.1:8790", "LOCALHOST:8790"], "LOCALHOST:8790 is listened on by another of them"),
        (["0.0.0.0:8790", "127.0.0.1:8790"], "127.0.0.1:8790 is listened on by another of them"),
        (["127.0.0.1:8790", "0.0.0.0:8790"], "0.0.0.0:8790 is listened on by another of them"),
        (["0.0.0.0:8790", "[::]:8790"], ""),
        (["127.0.0.1:8790", "127.0.0.2:8790", "[::1]:8790"], ""),
    ],
)
def test_addresses(addresses: list[str], why: str) -> None:
    """Nothing is listened on, so that a daemon at its address is no error."""
    assert told({"web": {"listen_address": addresses}}).startswith(
        f"--web.listen-address: {why}" if why else ""
    )
    assert bool(told({"web": {"listen_address": addresses}})) == bool(why)


def test_a_name_server_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as one, in bounded time."""

    def silent(*_: object, **__: object) -> None:
        answer.wait(10)
        raise OSError

    answer = threading.Event()
    monkeypatch.setattr(startup, "_LOOK_S", 0.05)
    monkeypatch.setattr("validator.service.startup.socket.getaddrinfo", silent)

    assert told({"web": {"listen_address": ["host.example:1"]}}) == (
        "--web.listen-address: cannot listen on host.example:1: "
        "host.example is not resolved within 0.05 s"
    )
    answer.set()


@pytest.mark.parametrize(
    "device", ["cuda", "cuda:0", "cuda:0:3", "cpu", "CPU", "GPU-12345678", "0000:0f:00.0", "xpu:1"]
)
def test_names_of_devices(device: str) -> None:
    """Each form that a device is asked for by."""
    assert told({"run": {"devices": [device]}}, startup.of_a_run) == ""


@pytest.mark.parametrize("device", ["cuda0", "0", "GPU 0", "cuda:x", "/dev/nvidia0"])
def test_what_no_device_is_called(device: str) -> None:
    """A run could only say that there is none."""
    complaint = told({"run": {"devices": [device]}}, startup.of_a_run)

    assert complaint.startswith(f"--device: {device!r} is no device's name; ")


def test_every_wrong_timetable_is_told_with_its_line(tmp_path: Path) -> None:
    """The file, the line and the key of each."""
    file = tmp_path / "settings.yaml"
    file.write_text(
        "schedule:\n"
        "  autograd: {cron: '0 0 30 2 *'}\n"
        "  linalg: {interval: 10, jitter: 20}\n"
        "  amp: {cron: '* * *'}\n",
        encoding="utf-8",
    )
    with pytest.raises(SettingsError) as refused:
        load(file, None, startup.of_a_run)

    assert str(refused.value).split("; ") == [
        f"{file}:2: schedule.autograd.cron: names no time that will come",
        "write one such as '0 3 * * *' (got '0 0 30 2 *')",
        f"{file}:3: schedule.linalg.jitter: 20 s is longer than the interval 10",
        "write less",
        f"{file}:4: schedule.amp.cron: '* * *' has 3 fields",
        "write five, as '0 3 * * *' (got '* * *')",
    ]


@pytest.mark.timeout(20)
def test_a_reload_from_a_pipe_keeps_the_old_settings(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The file was replaced by what never ends: it is refused at once, and named."""
    logs.configure()
    pipe = tmp_path / "settings.yaml"
    os.mkfifo(pipe)
    right = load(None, {"run": {"timeout": 7}})
    daemon = Daemon(right, runner=FakeRunner(), reload=lambda: load(pipe, None, startup.of_a_run))
    reload(daemon)
    said = capfd.readouterr().err

    assert "event=config_refused" in said
    assert f"{pipe}: is a pipe; settings are a regular file" in said
    assert daemon.alive() == ""


def test_settings_that_are_never_answered(
    tmp_path: Path, dead_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their file system is gone: a start, and `--config.check`, end with that."""
    monkeypatch.setattr(loading, "ANSWER_S", 0.2)
    link = tmp_path / "settings.yaml"
    link.symlink_to(dead_disk / "settings.yaml")
    with pytest.raises(SettingsError, match=r"settings\.yaml: cannot be read: no answer within"):
        loading.load_in_time(link, {})


@pytest.mark.parametrize(
    "key", ["files.ready", "files.nfd", "files.failed", "web.unix_socket", "web.token_file"]
)
def test_places_that_are_never_answered(key: str, dead_disk: Path) -> None:
    """Each is named, and soon."""
    section, name = key.split(".")
    began = time.monotonic()
    with pytest.raises(SettingsError, match=f"{key}: .*no answer") as refused:
        load(None, {section: {name: str(dead_disk / "file")}}, startup.of_a_daemon)

    assert str(dead_disk) in str(refused.value)
    assert time.monotonic() - began < 5


def test_a_path_of_a_socket_where_something_else_stands(tmp_path: Path) -> None:
    """What a start would be refused with; the socket of a daemon that runs is none."""
    file, pipe, link = tmp_path / "file", tmp_path / "pipe", tmp_path / "link"
    file.touch()
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "none")
    for place in (file, pipe, link):
        with pytest.raises(SettingsError, match=f"{place} exists and is no socket"):
            load(None, {"web": {"unix_socket": str(place)}}, startup.of_a_daemon)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        load(None, {"web": {"unix_socket": str(tmp_path / "socket")}}, startup.of_a_daemon)
