"""The readiness sidecar, for real over TLS: which node is tainted, and which is not."""

import contextlib
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.cluster import ROOT, Object, find, mode
from tests.deploy.components import served, wait_for
from tests.deploy.test_node_problem_detector import daemon, plugin
from validator.cli.condition import keep_conditions
from validator.service.apiserver import ApiServer
from validator.service.condition import PREFIX

pytestmark = pytest.mark.slow


@dataclass
class Cluster:
    """An API server with one node, as far as the reporter asks it."""

    conditions: dict[str, Object] = field(default_factory=dict)
    asked: list[tuple[str, str, str, str]] = field(default_factory=list)
    refuse: int = 0  # a status that is answered instead
    instead: bytes | None = None  # a body that is answered instead
    slow_s: float = 0.0  # between each two bytes of an answer

    def answer(self, method: str, path: str, kind: str, token: str, body: bytes) -> tuple[int, Any]:
        """Read the node, or merge conditions by their type as the API server does."""
        self.asked.append((method, path, kind, token))
        if self.refuse:
            return self.refuse, {"message": "nodes is forbidden"}
        for one in json.loads(body or "{}").get("status", {}).get("conditions", []):
            self.conditions[one["type"]] = self.conditions.get(one["type"], {}) | one
        return 200, {"status": {"conditions": list(self.conditions.values())}}

    def status(self, ending: str) -> str | None:
        """The status of one of our conditions."""
        found: str | None = self.conditions.get(f"GPUEnvironment{ending}", {}).get("status")
        return found


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token, and the certificate of an authority that is the server's own."""
    folder = tmp_path_factory.mktemp("account")
    make_authority(folder)
    (folder / "token").write_text("first\n")
    return folder


def make_authority(folder: Path) -> None:
    """Make ca.crt and its key, good for a server on 127.0.0.1."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext"),
            *("subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "ca.crt"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=30,
    )


@contextlib.contextmanager
def serving(cluster: Cluster, account: Path) -> Iterator[str]:
    """Serve a cluster over TLS; gives its port."""
    stop = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind, token = (self.headers.get(one, "") for one in ("Content-Type", "Authorization"))
            status, told = cluster.answer(self.command, self.path, kind, token, body)
            content = json.dumps(told).encode() if cluster.instead is None else cluster.instead
            if cluster.slow_s:
                with contextlib.suppress(OSError):  # it hung up
                    while not stop.wait(cluster.slow_s):
                        self.wfile.write(b"H")
                return
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PATCH = _do  # noqa: N815 - names of the standard library

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - same
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(account / "ca.crt", account / "key.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield str(server.server_address[1])
        finally:
            stop.set()
            server.shutdown()
            thread.join(timeout=10)


def in_pod(monkeypatch: pytest.MonkeyPatch, account: Path, port: str) -> ApiServer:
    """The API server, as a container finds it."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    return ApiServer(account)


def reporter(port: str, account: Path, daemon: str, *more: str) -> subprocess.Popen[str]:
    """Start the sidecar, with the command line that the manifests give it, and these options."""
    pod = find(mode("node-readiness"), "DaemonSet")["spec"]["template"]
    container = next(one for one in pod["spec"]["containers"] if one["name"] != "gpu-validator")
    arguments = [*container["args"], "--account", str(account), "--url", daemon, *more]
    return subprocess.Popen(
        [sys.executable, "-m", "validator", *arguments],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "NODE_NAME": "gpu-1",
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": port,
        },
        stderr=subprocess.PIPE,
        text=True,
    )


def report(port: str, account: Path, daemon: str) -> tuple[int, str]:
    """Let the sidecar ask and write once."""
    with reporter(port, account, daemon, "--once") as process:
        said = process.communicate(timeout=60)[1]
        return process.returncode, said


@dataclass
class Controller:
    """What Node Readiness Controller makes of a node's conditions, by the rules that we ship."""

    rules: list[Object]
    labels: dict[str, str]
    taints: set[str]
    done: set[str] = field(default_factory=set)  # rules that a node has behind it

    def reconcile(self, conditions: dict[str, Object]) -> set[str]:
        """The node's taints once the rules were applied to these conditions."""
        for rule in self.rules:
            spec, name = rule["spec"], rule["metadata"]["name"]
            applies = spec["nodeSelector"]["matchLabels"].items() <= self.labels.items()
            if not applies or name in self.done:
                continue
            satisfied = all(
                conditions.get(one["type"], {}).get("status", one.get("defaultStatus", "Unknown"))
                == one["requiredStatus"]
                for one in spec["conditions"]
            )
            change = self.taints.discard if satisfied else self.taints.add
            change(spec["taint"]["key"].removeprefix("readiness.k8s.io/gpu-environment-"))
            if satisfied and spec["enforcementMode"] == "bootstrap-only":
                self.done.add(name)
        return set(self.taints)


def controller(*, new: bool) -> Controller:
    """For a node that has just registered with label and taint, or one that runs since long."""
    rules = [one for one in mode("node-readiness") if one["kind"] == "NodeReadinessRule"]
    labels = {"nvidia.com/gpu.present": "true"} | (
        {"gpu-validator/startup-gate": "true"} if new else {}
    )
    return Controller(rules, labels, {"not-ready"} if new else set())


NOWHERE = "http://127.0.0.1:9"


def test_only_a_failed_probe_taints(
    account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real daemon's fail and pass; not its start, its end, its stale results."""
    cluster, new, old = Cluster(), controller(new=True), controller(new=False)
    exits: list[int] = []  # of node-problem-detector's plugin: 1 is a problem, 2 is Unknown

    def taints(daemon: str) -> tuple[set[str], set[str]]:
        assert keep_conditions(api, daemon, "gpu-1", PREFIX) == ""
        exits.append(plugin("127.0.0.1", daemon.rpartition(":")[2])[0])
        return new.reconcile(cluster.conditions), old.reconcile(cluster.conditions)

    def settled(port: str, *words: bytes) -> str:
        wait_for("a verdict", lambda: any(word in told(port) for word in words) or None, 60)
        return f"http://127.0.0.1:{port}"

    sick, well = tmp_path / "sick", tmp_path / "well"
    with serving(cluster, account) as port:
        api = in_pod(monkeypatch, account, port)
        before_the_first = taints(NOWHERE)
        sick.mkdir()
        with daemon(sick, expect={"torch": "<1"}) as there:
            failed = taints(settled(there, b"fail:"))
            remembered = cluster.conditions["GPUEnvironmentFailed"]["message"]
        gone_while_failed = taints(NOWHERE)
        well.mkdir()
        with daemon(well, ready={"max_age": "3s"}) as there:
            passed = taints(settled(there, b"pass: ", b"warn: "))
            ready = cluster.status("Ready")
            stale = taints(settled(there, b"stale"))
        could_not_tell = cluster.status("Ready")
        gone = taints(NOWHERE)

    assert re.search(r"^fail: .* \[failed: torch_version\.\w+\]$", remembered)
    assert before_the_first == ({"not-ready"}, set())
    assert failed == ({"not-ready", "failed"}, {"failed"})
    assert gone_while_failed == ({"not-ready", "failed"}, {"failed"})
    assert (passed, ready) == ((set(), set()), "True")
    assert (stale, could_not_tell) == ((set(), set()), "Unknown")
    assert gone == (set(), set())
    assert exits == [2, 1, 2, 0, 2, 2]


def told(port: str) -> bytes:
    """The body of /readyz, whatever its status."""
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", "/readyz")
        return connection.getresponse().read()


def test_a_controller_that_saw_an_error_as_a_fail_would_taint() -> None:
    """The model above is no yes-man: it does what the conditions say."""
    running = controller(new=False)
    failed = {"GPUEnvironmentFailed": {"status": "Unknown"}}

    assert running.reconcile({}) == set()
    assert running.reconcile(failed) == {"failed"}
    assert running.reconcile({"GPUEnvironmentFailed": {"status": "False"}}) == set()


def test_the_reporter_asks_no_more_than_its_role_allows(
    account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two requests of the two verbs, with the token as it is then, and a patch by type."""
    cluster = Cluster({"Ready": {"type": "Ready", "status": "True"}})
    with serving(cluster, account) as port:
        api = in_pod(monkeypatch, account, port)
        keep_conditions(api, NOWHERE, "gpu-1", PREFIX)
        (account / "token").write_text("second\n")
        keep_conditions(api, NOWHERE, "gpu-1", PREFIX)  # nothing is new
    (account / "token").write_text("first\n")

    node = "/api/v1/nodes/gpu-1"
    merge = "application/strategic-merge-patch+json"
    assert cluster.asked == [
        ("GET", node, "", "Bearer first"),
        ("PATCH", f"{node}/status", merge, "Bearer first"),
        ("GET", node, "", "Bearer second"),
    ]
    assert cluster.conditions["Ready"] == {"type": "Ready", "status": "True"}


def test_a_refusal_is_told_and_survived(account: Path) -> None:
    """A role that is not there yet, a stranger's certificate: said once, tried again."""
    cluster = Cluster(refuse=403)
    with serving(cluster, account) as port:
        refused = report(port, account, NOWHERE)
        with reporter(port, account, NOWHERE, "--interval", "0.05s") as process:
            wait_for("three tries", lambda: len(cluster.asked) > 4 or None, 60)
            cluster.refuse = 0
            wait_for("a word", lambda: cluster.status("Ready"), 60)
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=20)[1]

    assert refused[0] == 1
    assert "403" in refused[1]
    assert "nodes is forbidden" in refused[1]
    assert process.returncode == 0
    assert said.count("403") == 1
    assert "GPUEnvironmentReady is Unknown" in said


def test_a_server_of_another_authority_gets_no_token(account: Path, tmp_path: Path) -> None:
    """Nothing is sent before the certificate was checked."""
    cluster = Cluster()
    make_authority(tmp_path)
    (tmp_path / "token").write_text("secret")
    with serving(cluster, account) as port:
        code, said = report(port, tmp_path, NOWHERE)

    assert code != 0
    assert "certificate" in said.lower()
    assert cluster.asked == []


@pytest.mark.parametrize("status", [201, 301, 307, 401, 404, 409, 410, 429, 500, 503])
def test_no_status_but_200_is_an_answer(
    status: int, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told with what came; nothing is written, nobody is followed, and the next round goes on."""
    cluster = Cluster(refuse=status)
    with serving(cluster, account) as port:
        api = in_pod(monkeypatch, account, port)
        said = keep_conditions(api, NOWHERE, "gpu-1", PREFIX)
        cluster.refuse = 0
        later = keep_conditions(api, NOWHERE, "gpu-1", PREFIX)

    assert f"answered {status}" in said
    assert later == ""
    assert [one[0] for one in cluster.asked] == ["GET", "GET", "PATCH"]
    assert {path.removesuffix("/status") for _, path, *_ in cluster.asked} == {
        "/api/v1/nodes/gpu-1"
    }


@pytest.mark.parametrize(
    "body",
    [
        b"<html>sign in</html>",
        b"",
        b"null",
        b"[]",
        b'{"status": "Failure"}',
        b'{"status": {"conditions": [1]}}',
        b'{"status": {"conditions": [{"type": "Ready"}]}}',
        b'{"status": {"conditions": "none"}}',
        b"[" * 200_000,
        b'{"a": "%s"}' % (b"x" * 5_000_000),
    ],
    ids=("html", "empty", "null", "list", "failure", "number", "typeless", "text", "deep", "huge"),
)
def test_what_is_no_node_is_told(
    body: bytes, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy's page, or half a document: one line, nothing is written, and it goes on."""
    cluster = Cluster(instead=body)
    with serving(cluster, account) as port:
        said = keep_conditions(in_pod(monkeypatch, account, port), NOWHERE, "gpu-1", PREFIX)

    assert said
    assert len(said) < 600
    assert [one[0] for one in cluster.asked] == ["GET"]


def test_a_trickling_server_is_left_in_time(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then: each wait for one is short, and all of them have an end too."""
    monkeypatch.setattr("validator.service.apiserver._ANSWER_S", 0.5)
    threads = threading.active_count()
    cluster = Cluster(slow_s=0.1)
    with serving(cluster, account) as port:
        began = time.monotonic()
        said = keep_conditions(in_pod(monkeypatch, account, port), NOWHERE, "gpu-1", PREFIX)
        took = time.monotonic() - began
    wait_for("no thread left", lambda: threading.active_count() <= threads or None, 10)

    assert "no whole answer in 0.5 s" in said
    assert took < 5


def test_a_handshake_that_never_comes_is_left_in_time(
    account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The port is open, and nobody speaks TLS there."""
    monkeypatch.setattr("validator.service.apiserver._ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = in_pod(monkeypatch, account, str(silent.getsockname()[1]))
        assert keep_conditions(api, NOWHERE, "gpu-1", PREFIX)


def test_a_rotated_authority_is_the_one_that_counts(
    account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet replaces ca.crt as it does the token: the sidecar needs no restart."""
    mine, rotated = tmp_path / "mine", tmp_path / "rotated"
    mine.mkdir()
    rotated.mkdir()
    make_authority(rotated)
    for name in ("ca.crt", "token"):
        shutil.copy(account / name, mine / name)
    with serving(Cluster(), account) as port:
        api = in_pod(monkeypatch, mine, port)
        before = keep_conditions(api, NOWHERE, "gpu-1", PREFIX)
    with serving(Cluster(), rotated) as port:
        monkeypatch.setattr(api, "_port", int(port))
        between = keep_conditions(api, NOWHERE, "gpu-1", PREFIX)
        shutil.copy(rotated / "ca.crt", mine / "ca.crt")
        after = keep_conditions(api, NOWHERE, "gpu-1", PREFIX)

    assert before == ""
    assert "certificate" in between
    assert after == ""


def test_a_token_is_never_told(
    account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that no header can hold: what goes wrong is logged."""
    cluster = Cluster()
    shutil.copy(account / "ca.crt", tmp_path / "ca.crt")
    (tmp_path / "token").write_text("secret\nsecret\n")
    with serving(cluster, account) as port:
        said = keep_conditions(in_pod(monkeypatch, tmp_path, port), NOWHERE, "gpu-1", PREFIX)

    assert "holds no token" in said
    assert "secret" not in said
    assert cluster.asked == []


def test_what_another_writer_left_is_written_over(
    account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old reporter's condition, a time of the future, 32 KiB: no memory of ours."""
    theirs = {
        "type": "GPUEnvironmentFailed",
        "status": "True",
        "reason": "EndpointNotOK",
        "message": "x" * 32_768,
        "lastHeartbeatTime": "2999-01-01T00:00:00Z",
        "lastTransitionTime": "2020-01-01T00:00:00Z",
    }
    cluster = Cluster({"GPUEnvironmentFailed": theirs})
    page = {"/readyz": b"pass: 1 probe\n", "/api/v1/probes": b"[]"}
    with served(lambda path, _: page[path]) as there, serving(cluster, account) as port:
        api = in_pod(monkeypatch, account, port)
        assert keep_conditions(api, f"http://{there}", "gpu-1", PREFIX) == ""
        assert keep_conditions(api, f"http://{there}", "gpu-1", PREFIX) == ""

    assert (cluster.status("Ready"), cluster.status("Failed")) == ("True", "False")
    assert cluster.conditions["GPUEnvironmentFailed"]["message"] == "pass: 1 probe"
    assert [one[0] for one in cluster.asked] == ["GET", "PATCH", "GET"]
