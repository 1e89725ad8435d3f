"""Only the daemon's own word answers `check --max-age`, and within two seconds."""

import contextlib
import os
import pwd
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import BaseServer, TCPServer, UnixStreamServer
from typing import Any

import pytest

from tests.validator import reports
from tests.validator.reports import node, recent
from tests.validator.service.test_api import FakeNode, ask
from validator.report import Report
from validator.service import ask as asking
from validator.service import trust
from validator.service.ask import NoAnswerError, get
from validator.service.fresh import fetch
from validator.service.token import token_of
from validator.service.trust import NONCE, PROOF, Trust, UntrustedError, prove, trust_of
from validator.settings.model import Web
from validator.settings.values import SettingsError

TOKEN = b"0123456789abcdef0123456789abcdef"
MINE = Trust(frozenset({os.geteuid()}))
WITH_TOKEN = Trust(MINE.owners, TOKEN)


class Daemon(BaseHTTPRequestHandler):
    """Answers with a report, and a proof where it has a token."""

    token: bytes | None = None
    body = b""
    replayed: str | None = None  # a proof of another request
    status = 200

    def do_GET(self) -> None:
        """The report."""
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        if self.token is not None:
            proof = self.replayed or prove(self.token, self.headers[NONCE], self.body)
            self.send_header(PROOF, proof)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        """A unix socket's peer has no address."""
        return "nobody"


@contextlib.contextmanager
def serving(server: BaseServer) -> Iterator[None]:
    """Serve in a thread."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def over_tcp(**told: Any) -> Iterator[str]:
    """A daemon on the loopback."""
    handler = type("Told", (Daemon,), {"body": recent(node()), **told})
    server = TCPServer(("127.0.0.1", 0), handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


@contextlib.contextmanager
def over_unix(path: str | Path) -> Iterator[str]:
    """A daemon on a unix socket."""
    name = str(path)
    address = f"\0{name[1:]}" if name.startswith("@") else name
    server = UnixStreamServer(address, type("Told", (Daemon,), {"body": recent(node())}))
    with serving(server):
        yield f"unix:{name}"


# -- over TCP: a proof of the token ---------------------------------------------------------------


def test_the_token_proves_the_answer() -> None:
    """Both have it."""
    with over_tcp(token=TOKEN) as server:
        assert isinstance(fetch(server, WITH_TOKEN), Report)


@pytest.mark.parametrize(
    ("told", "trust", "why"),
    [
        ({}, MINE, "over TCP anybody could answer"),
        ({"token": TOKEN}, MINE, "over TCP anybody could answer"),
        ({}, WITH_TOKEN, "without proof"),
        ({"token": b"another one of at least 16 bytes"}, WITH_TOKEN, "its proof is wrong"),
        ({"token": TOKEN, "replayed": prove(TOKEN, "0" * 32, b"")}, WITH_TOKEN, "proof is wrong"),
        ({"token": TOKEN, "replayed": "\xe9"}, WITH_TOKEN, "its proof is wrong"),
    ],
    ids=["no token", "one side alone", "a stranger", "another token", "an old answer", "no text"],
)
def test_a_stranger_over_tcp_is_not_believed(told: dict[str, Any], trust: Trust, why: str) -> None:
    """The text says what would prove it."""
    with over_tcp(**told) as server, pytest.raises(NoAnswerError, match=why):
        fetch(server, trust)


@pytest.mark.parametrize("has_token", [True, False])
def test_an_early_daemon_says_that_it_is_early(*, has_token: bool) -> None:
    """Not that its token is another: it proves that there is no report, too."""
    daemon = FakeNode()
    daemon.content, daemon.secret = None, TOKEN
    answer = ask(daemon, "/api/v1/report", headers={NONCE: "ab" * 16})
    assert answer.headers[PROOF] == prove(TOKEN, "ab" * 16, answer.content)

    why = "has ended no run yet" if has_token else "it answered 503, and without a proof"
    told = {"token": TOKEN if has_token else None, "body": answer.content, "status": 503}
    with over_tcp(**told) as server, pytest.raises(NoAnswerError, match=why):
        fetch(server, WITH_TOKEN)


def test_the_daemon_proves_what_it_is_asked_to_prove() -> None:
    """The report's body, for the number in the request, where that is one."""
    daemon = FakeNode()
    daemon.secret = TOKEN
    answer = ask(daemon, "/api/v1/report", headers={NONCE: "ab" * 16})

    assert answer.headers[PROOF] == prove(TOKEN, "ab" * 16, answer.content)
    for odd in ("", "x" * 32, "ab", "ab" * 100):
        assert PROOF not in ask(daemon, "/api/v1/report", headers={NONCE: odd}).headers
    daemon.secret = None
    assert PROOF not in ask(daemon, "/api/v1/report", headers={NONCE: "ab" * 16}).headers


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (None, 0, "No such file"),
        (b"", 0o600, "holds 0 bytes"),
        (b"short\n", 0o600, "holds 5 bytes"),
        (b"x" * 5000, 0o600, "bytes"),
        (TOKEN, 0o604, "others can read"),
    ],
)
def test_a_token_that_cannot_be(tmp_path: Path, content: bytes | None, mode: int, why: str) -> None:
    """It is said before anything is served or asked."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)

    with pytest.raises(SettingsError, match=f"web.token_file.*{why}"):
        token_of(Web(token_file=path))


def test_a_token_and_what_is_no_file(tmp_path: Path) -> None:
    """White space around it does not count; a FIFO hangs nobody."""
    path = tmp_path / "token"
    path.write_bytes(TOKEN + b"\n")
    path.chmod(0o640)
    assert token_of(Web(token_file=path)) == TOKEN
    assert token_of(Web()) is None

    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SettingsError, match="no regular file"):
        token_of(Web(token_file=tmp_path / "fifo"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_token_of_a_stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose file it is knows what it holds, and can change it."""
    path = tmp_path / "token"
    path.write_bytes(TOKEN)
    path.chmod(0o600)
    os.chown(path, 4711, -1)

    with pytest.raises(SettingsError, match=r"web\.token_file: .* is of user 4711"):
        token_of(Web(token_file=path))
    assert token_of(Web(token_file=path, socket_owner="4711")) == TOKEN
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert token_of(Web(token_file=path)) == TOKEN


# -- over a unix socket: who listens, and who could -----------------------------------------------


@pytest.mark.parametrize("name", ["path", "name"])
def test_the_owners_socket_is_believed(tmp_path: Path, name: str) -> None:
    """Ours, in a folder of ours, or without a file."""
    where = tmp_path / "s" if name == "path" else f"@gpu-validator-{os.getpid()}"
    with over_unix(where) as server:
        assert isinstance(fetch(server, MINE), Report)


@pytest.mark.parametrize("name", ["path", "name"])
def test_another_users_socket_is_not_believed(tmp_path: Path, name: str) -> None:
    """Whoever has taken the daemon's place."""
    where = tmp_path / "s" if name == "path" else f"@gpu-validator-other-{os.getpid()}"
    other = Trust(frozenset({os.geteuid() + 1}))
    tmp_path.chmod(0o755)
    with over_unix(where) as server, pytest.raises(NoAnswerError, match="is not trusted: "):
        fetch(server, other)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_process_of_another_user_is_told_by_its_number(tmp_path: Path) -> None:
    """A real stranger, in a folder that is right."""
    path = tmp_path / "s"
    ready, told = os.pipe()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        listening.listen()  # from here on it is the stranger's
        os.write(told, b"x")
        time.sleep(30)
        os._exit(0)
    try:
        os.read(ready, 1)
        with pytest.raises(NoAnswerError, match=r"user 65534 answers there.*web\.socket_owner"):
            get(f"unix:{path}", "/", 5, Trust(frozenset({0})))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        listening.close()


def test_a_user_without_a_number_here_is_nobody_s_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a user namespace strangers appear as one user, and who asks may be that one."""
    files = {"/proc/self/uid_map": ["0 100000 65536"]}
    files["/proc/sys/kernel/overflowuid"] = [str(os.geteuid())]
    with over_unix(tmp_path / "s") as server:
        monkeypatch.setattr(trust, "_read", files.__getitem__)
        with pytest.raises(NoAnswerError, match="has no number here"):
            fetch(server, MINE)
        files["/proc/self/uid_map"] = ["0 0 4294967295"]
        assert isinstance(fetch(server, MINE), Report)


@pytest.mark.parametrize(
    ("mode", "above", "believed"),
    [
        (0o755, 0o755, True),
        (0o700, 0o755, True),
        (0o777, 0o755, False),
        (0o775, 0o755, False),
        (0o1777, 0o755, False),
        (0o755, 0o777, False),
        (0o755, 0o1777, True),
    ],
)
def test_a_folder_that_others_can_write_to(
    tmp_path: Path, mode: int, above: int, *, believed: bool
) -> None:
    """The folder itself, and those above, where nobody can take away what is another's."""
    folder = tmp_path / "above" / "folder"
    folder.mkdir(parents=True)
    folder.parent.chmod(above)
    folder.chmod(mode)
    if believed:
        MINE.refuse_folder(folder / "s")
    else:
        with pytest.raises(UntrustedError, match="can be written to by others"):
            MINE.refuse_folder(folder / "s")


@pytest.mark.parametrize("socket_is_linked", [True, False])
@pytest.mark.parametrize("parent", [0o755, 0o777])
def test_a_folder_behind_a_link(tmp_path: Path, parent: int, *, socket_is_linked: bool) -> None:
    """What is really there counts, with the folders above it."""
    real = tmp_path / "real" / "folder"
    real.mkdir(parents=True)
    real.chmod(0o755)
    real.parent.chmod(parent)
    link = tmp_path / "link"
    link.symlink_to(real / "s" if socket_is_linked else real)
    socket_path = link if socket_is_linked else link / "s"
    if parent == 0o755:
        MINE.refuse_folder(socket_path)
    else:
        with pytest.raises(UntrustedError, match="real can be written to by others"):
            MINE.refuse_folder(socket_path)


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    """Whoever can make it can answer there."""
    tmp_path.chmod(0o755)
    MINE.refuse_folder(tmp_path / "none" / "s")
    tmp_path.chmod(0o777)
    with pytest.raises(UntrustedError, match="can be written to by others"):
        MINE.refuse_folder(tmp_path / "none" / "s")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user(tmp_path: Path) -> None:
    """Its owner could put any socket there."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 65534, -1)

    with pytest.raises(UntrustedError, match="by user 65534"):
        Trust(frozenset({0})).refuse_folder(folder / "s")
    Trust(frozenset({65534})).refuse_folder(folder / "s")


def test_whose_socket_it_is() -> None:
    """By name or number; by default root's, the package's user's and our own."""
    assert trust_of(Web(socket_owner="root")).ids() == {0}
    assert trust_of(Web(socket_owner="4711")).ids() == {4711}
    assert trust_of(Web(), user=lambda: 1234).ids() >= {0, 1234}


def test_a_user_by_name_is_looked_up_when_that_decides(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A name that nobody has is no owner, and is told."""
    users = {"gpu-validator": pwd.getpwuid(os.geteuid())}
    monkeypatch.setattr(pwd, "getpwnam", users.__getitem__)
    tmp_path.chmod(0o755)
    with over_unix(tmp_path / "s") as path, over_unix(f"@gpu-validator-by-{os.getpid()}") as name:
        for server in (path, name):
            by_name = trust_of(Web(socket_owner="gpu-validator"))
            assert isinstance(fetch(server, by_name), Report)
        with pytest.raises(NoAnswerError, match=r"the daemon's is nosuch, unknown: .*owner"):
            fetch(name, trust_of(Web(socket_owner="nosuch")))


def test_a_silent_directory_of_users_costs_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked by whoever can be left behind, and not at all where a number decides."""
    over = threading.Event()
    monkeypatch.setattr(pwd, "getpwnam", lambda _: over.wait(20))
    with over_unix(f"@gpu-validator-silent-{os.getpid()}") as server:
        began = time.monotonic()
        try:
            assert isinstance(fetch(server, trust_of(Web())), Report)
            with pytest.raises(NoAnswerError, match=r"gave no answer in 0\.2 s"):
                get(server, "/", 0.2, trust_of(Web(socket_owner="gpu-validator")))
        finally:
            over.set()

        assert time.monotonic() - began < 5


# -- two seconds in all ---------------------------------------------------------------------------


@contextlib.contextmanager
def dripping(piece: bytes, every_s: float, first: bytes = b"") -> Iterator[str]:
    """A server that says a little again and again, and never all."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        over = threading.Event()

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    connection.sendall(first)
                    while not over.wait(every_s):
                        connection.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            over.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextlib.contextmanager
def ending(answer: bytes) -> Iterator[str]:
    """A server that says this and no more."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


@pytest.fixture
def no_alarm() -> Iterator[None]:
    """SIGALRM kept from this process, as a parent may have left it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.usefixtures("no_alarm")
@pytest.mark.parametrize(
    ("piece", "every_s"),
    [
        (b"H", 0.01),
        (b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n", 0.01),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\nx", 0.01),
        (b"", 60.0),
    ],
    ids=["a status line", "headers", "a body", "nothing"],
)
def test_dripping_answers_cost_the_deadline_and_no_more(piece: bytes, every_s: float) -> None:
    """However often a little comes."""
    with dripping(piece, min(every_s, 0.05) if piece else 0.05) as server:
        began = time.monotonic()
        with pytest.raises(NoAnswerError):
            get(server, "/", 0.3)

        assert time.monotonic() - began < 5


@pytest.mark.usefixtures("no_alarm")
def test_an_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its size, before the time is over."""
    monkeypatch.setattr(asking, "_MOST_BYTES", 1000)
    with (
        over_tcp(body=b"x" * 2000) as server,
        pytest.raises(NoAnswerError, match="more than 1000 bytes"),
    ):
        get(server, "/", 20)


@pytest.mark.usefixtures("no_alarm")
@pytest.mark.parametrize("size", [b"-1", b"fffffff", b"400"])
def test_an_endless_answer_in_chunks_is_cut(monkeypatch: pytest.MonkeyPatch, size: bytes) -> None:
    """Whatever size a chunk says that it has."""
    monkeypatch.setattr(asking, "_MOST_BYTES", 10_000)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = size + b"\r\n" + b"x" * 0x400 + b"\r\n"
    with (
        dripping(chunk, 0.001, first=head) as server,
        pytest.raises(NoAnswerError, match="more than 10000 bytes"),
    ):
        get(server, "/", 20)


def test_an_answer_that_ends_early_is_none() -> None:
    """It is said, and its beginning is not taken for it."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
    with ending(head) as server, pytest.raises(NoAnswerError, match="ended 5 bytes too early"):
        get(server, "/", 20)


@pytest.mark.usefixtures("no_alarm")
def test_a_silent_name_server_costs_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be interrupted: it is left behind."""
    over = threading.Event()

    def silent(*_: Any, **__: Any) -> Any:
        over.wait(20)
        raise socket.gaierror(-3, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    began = time.monotonic()
    try:
        with pytest.raises(NoAnswerError, match=r"gave no answer in 0\.2 s"):
            get("http://daemon.example:8790", "/", 0.2)
    finally:
        over.set()

    assert time.monotonic() - began < 5


def test_what_the_command_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stranger on the loopback: the probes run here, and the line says why."""
    from validator.cli import early, main, one_run

    class Runner:
        def __init__(self, worker: Any = None) -> None:
            assert worker is None

        async def run(self, *_: Any) -> Report:
            return reports.sound()

    def started(*_: Any, **__: Any) -> Callable[..., Any]:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(one_run, "Runner", Runner)
    monkeypatch.setattr(early, "start_worker", started)
    with over_tcp() as server:
        argv = ["gpu-validator", "check", "--max-age", "10m", "--server", server]
        monkeypatch.setattr(sys, "argv", argv)
        main.main()

    line = capsys.readouterr().err
    assert f"{server} is not trusted: over TCP anybody could answer" in line
    assert line.endswith("running the probes here\n")


def test_a_token_that_is_never_answered(dead_disk: Path) -> None:
    """`check --max-age` has 2 s: its file system is gone, which is said."""
    began = time.monotonic()
    with pytest.raises(SettingsError, match=r"web\.token_file: .*/token: no answer within 1 s"):
        trust_of(Web(token_file=dead_disk / "token"))

    assert time.monotonic() - began < 2
