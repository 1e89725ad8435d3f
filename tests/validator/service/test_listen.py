"""The sockets of the daemon: every address, and a unix socket that outlives no daemon."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from validator.service.listen import _listen_by_name, address_of, listen, listening
from validator.settings.loading import load
from validator.settings.model import Settings, Web
from validator.settings.values import SettingsError


def web(path: Path, **more: Any) -> Settings:
    """Settings with a free port, and a unix socket at the path."""
    address = ["127.0.0.1:0"]
    return load(flags={"web": {"listen_address": address, "unix_socket": str(path), **more}})


@contextmanager
def at(path: Path, **more: Any) -> Iterator[list[socket.socket]]:
    """The sockets, as long as the block."""
    with listening(web(path, **more).web) as sockets:
        yield sockets


def test_several_addresses_and_the_free_port() -> None:
    """Every address listens, also on every interface, each on a port of its own."""
    sockets = listen(["127.0.0.1:0", ":0", "localhost:0"])
    ports = {one.getsockname()[1] for one in sockets}
    for one in sockets:
        one.close()

    assert len(sockets) >= 3
    assert len(ports) == len(sockets)


@pytest.mark.parametrize("address", ["256.1.1.1:80", "no-such-host.invalid:80", "192.0.2.1:0"])
def test_an_address_that_cannot_be_had_is_named(address: str) -> None:
    """No such address, no such host, not an address of this machine."""
    with pytest.raises(SettingsError, match=f"cannot listen on {address}"):
        listen([address])


def test_tcp_alone_where_no_socket_is_wanted() -> None:
    """An empty name is none."""
    web = {"listen_address": ["127.0.0.1:0"], "unix_socket": ""}
    with listening(load(flags={"web": web}).web) as sockets:
        families = [one.family for one in sockets]

    assert families == [socket.AF_INET]


def test_a_socket_without_a_file_by_name(capfd: pytest.CaptureFixture[str]) -> None:
    """A second daemon goes without it where nobody has chosen the name, else it does not start."""
    name = f"@gpu-validator-{os.getpid()}"
    web = load(flags={"web": {"listen_address": ["127.0.0.1:0"], "unix_socket": name}}).web
    with listening(web) as sockets:
        assert [address_of(one) for one in sockets][1:] == [f"unix:{name}"]
        with pytest.raises(SettingsError, match=f"cannot listen on {name}: Address already"):
            _listen_by_name(web)
        assert _listen_by_name(Web.model_construct(set(), unix_socket=name)) is None
    assert "cannot listen on" in "".join(capfd.readouterr())
    with listening(web) as sockets:
        assert len(sockets) == 2


def test_a_unix_socket_beside_tcp_is_gone_in_the_end(tmp_path: Path) -> None:
    """Both take connections; afterwards the path is free and the sockets are closed."""
    path = tmp_path / "s"
    with at(path) as sockets:
        tcp, unix = sockets
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        names = [address_of(one) for one in sockets]

    assert names == [f"127.0.0.1:{names[0].rpartition(':')[2]}", f"unix:{path}"]
    assert not os.path.lexists(path)
    assert [tcp.fileno(), unix.fileno()] == [-1, -1]


@pytest.mark.parametrize(("given", "mode"), [({}, 0o660), ({"unix_socket_mode": "0600"}, 0o600)])
def test_its_permissions(tmp_path: Path, given: dict[str, str], mode: int) -> None:
    """As set, whatever the umask, which stays what it was."""
    before = os.umask(0o077)
    try:
        with at(tmp_path / "s", **given):
            found = (tmp_path / "s").stat().st_mode & 0o777
    finally:
        after = os.umask(before)

    assert found == mode
    assert after == 0o077


def test_a_dead_daemons_socket_is_replaced(tmp_path: Path) -> None:
    """One that was killed left its file behind."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with at(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))

    assert not path.exists()


def test_a_living_daemons_socket_is_not_taken(tmp_path: Path) -> None:
    """The second is refused; the first goes on, and its path stays."""
    path = tmp_path / "s"
    with at(path):
        with (
            pytest.raises(SettingsError, match=f"cannot listen on {path}: another process"),
            at(path),
        ):
            pass
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_stays(tmp_path: Path, kind: str) -> None:
    """A path mistyped costs nobody a file."""
    path = tmp_path / "s"
    if kind == "link":
        path.symlink_to("x")
    else:
        (path.mkdir if kind == "folder" else path.touch)()
    with pytest.raises(SettingsError, match="it exists and is no socket"), at(path):
        pass

    assert os.path.lexists(path)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    """With the key; and the TCP sockets do not stay open (an unclosed one fails a test here)."""
    with (
        pytest.raises(SettingsError, match=r"web.unix_socket: .*: No such file"),
        at(tmp_path / "no" / "s"),
    ):
        pass


def test_a_successors_socket_is_left_alone(tmp_path: Path) -> None:
    """Who replaced ours meanwhile keeps it."""
    path = tmp_path / "s"
    with at(path):
        path.unlink()
        other = socket.socket(socket.AF_UNIX)
        other.bind(str(path))
    other.close()

    assert path.is_socket()


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("unix_socket", "run/s", "no absolute path"),
        ("unix_socket", "/" + 107 * "x", "at most 107 bytes"),
        ("unix_socket_mode", 660, "no mode; write it in octal"),
        ("unix_socket_mode", "0888", "no mode"),
        ("unix_socket_mode", True, "no mode"),
    ],
)
def test_settings_that_cannot_be(key: str, value: object, problem: str) -> None:
    """Refused with the key."""
    with pytest.raises(SettingsError, match=f"web.{key}: .*{problem}"):
        load(flags={"web": {key: value}})


def test_octal_in_every_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML reads 0600 as octal; quoted, and from the environment, it is text."""
    read = []
    for text in ("0600", "'0600'", "'600'", "'0o600'"):
        file = tmp_path / "c.yaml"
        file.write_text(f"web: {{unix_socket_mode: {text}}}")
        read.append(load(file).web.unix_socket_mode)
    monkeypatch.setenv("GPU_VALIDATOR_WEB__UNIX_SOCKET_MODE", "0600")
    read.append(load().web.unix_socket_mode)

    assert read == ["0600"] * 5
