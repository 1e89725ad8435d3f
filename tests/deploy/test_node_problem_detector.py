"""node-problem-detector's plugin: exit code, one line of 80 characters, always within 5 s."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from probes.catalog import CATALOG
from tests.deploy.cluster import KUBERNETES, ROOT, find, invalid, kustomize
from validator.settings.model import Web
from validator.settings.values import host_port

pytestmark = pytest.mark.slow

FOLDER = ROOT / "deploy/node-problem-detector"
SCRIPT = FOLDER / "check_gpu_validator.sh"
MONITOR: dict[str, Any] = json.loads((FOLDER / "gpu-validator-monitor.json").read_text())


def plugin(*arguments: str) -> tuple[int, str]:
    """Run the script as the detector does: no variable at all, killed after 5 s."""
    done = subprocess.run(
        [str(SCRIPT), *arguments], env={}, capture_output=True, timeout=5, check=False
    )
    assert done.stderr == b""
    return done.returncode, done.stdout.decode()


class Answer(BaseHTTPRequestHandler):
    """A daemon that answers what the test says."""

    code: ClassVar[int] = 200
    body: ClassVar[str] = ""
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Note the path, give the answer."""
        self.asked.append(self.path)
        content = self.body.encode()
        self.send_response(self.code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Be quiet."""


@contextlib.contextmanager
def answering(code: int, body: str) -> Iterator[tuple[str, list[str]]]:
    """A server's port, and what it was asked."""
    kind = type("Kind", (Answer,), {"code": code, "body": body, "asked": []})
    with HTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield str(server.server_port), kind.asked  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, "pass: 7 probes on 8 GPUs\n", 0),
        (200, "warn: cuda_available on cuda:3: 91 % of memory taken\n", 0),
        (503, "fail: tensor_ops on cuda:3: 2 of 120 operations are wrong\n", 1),
        (503, "error: autograd on cuda:0: stale: no new result for 901 s, last was pass\n", 2),
        (503, "not ready: no result yet of torch_version\n", 2),
        (503, "error: nothing could be told: 7 skipped (gpu_busy)\n", 2),
        (503, "this is no failure: fail: is no first word here\n", 2),
    ],
)
def test_the_verdict_is_the_exit_code(status: int, body: str, code: int) -> None:
    """0 sound, 1 broken, 2 could not tell; the reason is the line; /readyz alone is asked."""
    with answering(status, body) as (port, asked):
        answer = plugin("127.0.0.1", port)

    assert answer == (code, body)
    assert asked == ["/readyz"]


@pytest.mark.parametrize("status", [404, 401, 500, 302])
def test_another_answer_is_no_verdict(status: int) -> None:
    """Not ours, or behind something that wants a credential: nothing to drain a node for."""
    with answering(status, "fail: this is somebody else\n") as (port, _):
        code, line = plugin("127.0.0.1", port)

    assert code == 2
    assert line.startswith(f"gpu-validator gave no verdict: {status}")


def test_a_closed_port_is_no_verdict() -> None:
    """No daemon on this node."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    code, line = plugin("127.0.0.1", str(port))

    assert code == 2
    assert line == f"gpu-validator cannot be reached at 127.0.0.1:{port}\n"


def test_a_name_that_nobody_knows_is_no_verdict() -> None:
    """The service is not there yet."""
    code, line = plugin("gpu-validator.gpu-validator.invalid", "8790")

    assert code == 2
    assert line.startswith("gpu-validator cannot be reached at ")


def test_a_silent_server_is_left_in_time() -> None:
    """It takes the connection and never answers: done before the detector kills."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        code, line = plugin("127.0.0.1", str(silent.getsockname()[1]))
        took = time.monotonic() - began

    assert (code, line) == (2, "gpu-validator gave no answer in 3 s\n")
    assert took < 4.5


def test_an_empty_answer_is_no_verdict() -> None:
    """The connection is closed at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def close_at_once() -> None:
            server.accept()[0].close()

        thread = threading.Thread(target=close_at_once)
        thread.start()
        code, line = plugin("127.0.0.1", str(server.getsockname()[1]))
        thread.join()

    assert code == 2
    assert line.startswith("gpu-validator ")


def test_the_line_is_cut_and_plain() -> None:
    """The detector cuts after 80 bytes, also within a letter, which a condition cannot hold."""
    body = f"fail: tensor_ops on cuda:0: {'x' * 40}…\n"
    long = f"fail: é {'y' * 5000}\n"
    with answering(503, body) as (port, _):
        first = plugin("127.0.0.1", port)
    with answering(503, long) as (port, _):
        second = plugin("127.0.0.1", port)

    assert first == (1, body.replace("…", "..."))
    assert second[0] == 1
    assert len(second[1].encode()) == 81
    assert second[1].startswith("fail: ?? yyy")


def test_the_script_is_clean() -> None:
    """shellcheck; skipped by name where there is none."""
    try:
        done = subprocess.run(
            ["shellcheck", str(SCRIPT)], capture_output=True, text=True, timeout=60, check=False
        )
    except FileNotFoundError:
        pytest.skip("no shellcheck here")

    assert done.returncode == 0, done.stdout


@contextlib.contextmanager
def daemon(folder: Path, **settings: Any) -> Iterator[str]:
    """A real daemon that runs one probe, on a free port."""
    others = [spec.name for spec in CATALOG if spec.name != "torch_version"]
    config = {
        "probes": {name: {"enabled": False} for name in others},
        "web": {"listen_address": "127.0.0.1:0"},
        **settings,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    log = folder / "log"
    with (
        log.open("wb") as stream,
        subprocess.Popen(
            [sys.executable, "-m", "validator", "serve", "--config.file", str(path)],
            cwd=ROOT,
            stderr=stream,
            env={key: value for key, value in os.environ.items() if "GPU_VALIDATOR" not in key},
        ) as process,
    ):
        try:
            yield _until(lambda: _port(log), "the daemon never listened")
        finally:
            process.terminate()
            process.wait(timeout=20)


def _port(log: Path) -> str:
    found = [word for word in log.read_text().split() if word.startswith("address=127.0.0.1:")]
    return found[0].rpartition(":")[2] if found else ""


def _until(ask: Callable[[], str], complaint: str) -> str:
    deadline = time.monotonic() + 60
    while not (answer := ask()):
        assert time.monotonic() < deadline, complaint
        time.sleep(0.05)
    return answer


def _verdict(port: str) -> tuple[int, str]:
    """The plugin's first word that is not 'not yet'."""
    answers: list[tuple[int, str]] = []

    def ask() -> str:
        answers.append(plugin("127.0.0.1", port))
        return "" if answers[-1][1].startswith("not ready") else "told"

    _until(ask, "the daemon never came to a verdict")
    return answers[-1]


def test_a_real_daemon_on_a_sound_node(tmp_path: Path) -> None:
    """From a real run to exit code 0."""
    with daemon(tmp_path) as port:
        code, line = _verdict(port)

    assert code == 0
    assert line.startswith(("pass: 1 probe", "warn: torch_version"))


def test_a_real_daemon_on_a_sick_node(tmp_path: Path) -> None:
    """The wrong torch is installed: exit code 1, and the line says so."""
    with daemon(tmp_path, expect={"torch": "<1"}) as port:
        code, line = _verdict(port)

    assert code == 1
    assert line.startswith("fail: torch_version on cpu")
    assert len(line) <= 81


# -- its place in the cluster -----------------------------------------------------------------


def test_the_monitor_keeps_the_detectors_rules() -> None:
    """5 s and 80 characters are its limits; a lasting problem is a condition, and is declared."""
    config, rule = MONITOR["pluginConfig"], MONITOR["rules"][0]

    assert config["max_output_length"] == 80
    assert config["timeout"] == "5s"
    assert rule["timeout"] == "5s"
    assert rule["type"] == "permanent"
    assert [one["type"] for one in MONITOR["conditions"]] == [rule["condition"]]


def test_the_monitor_asks_the_service_of_the_base(tmp_path: Path) -> None:
    """Name, namespace and port of what kustomize makes, which are the script's own too."""
    service = find(kustomize(tmp_path), "Service")
    name = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    arguments = MONITOR["rules"][0]["args"]

    assert arguments == [name, str(service["spec"]["ports"][0]["port"])]
    assert arguments[1] == str(host_port(Web().listen_address[0])[1])
    assert f"host=${{1:-{name}}}\nport=${{2:-{arguments[1]}}}\n" in SCRIPT.read_text()


DETECTOR = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: node-problem-detector, namespace: kube-system}
spec:
  selector: {matchLabels: {app: node-problem-detector}}
  template:
    metadata: {labels: {app: node-problem-detector}}
    spec:
      containers:
        - name: node-problem-detector
          image: registry.k8s.io/node-problem-detector/node-problem-detector:v0.8.20
          command: [/node-problem-detector, --logtostderr]
          volumeMounts: [{name: log, mountPath: /var/log, readOnly: true}]
      volumes: [{name: log, hostPath: {path: /var/log}}]
"""


def test_the_component_fits_a_detector(tmp_path: Path) -> None:
    """Flag, script and configuration meet in the pod; what was there stays."""
    (tmp_path / "detector.yaml").write_text(DETECTOR)
    objects = kustomize(tmp_path, FOLDER, resources=("detector.yaml",))
    configmap, pod = find(objects, "ConfigMap"), find(objects, "DaemonSet")["spec"]["template"]
    container = pod["spec"]["containers"][0]
    mount = next(one for one in container["volumeMounts"] if one["name"] == "gpu-validator")
    volume = next(one for one in pod["spec"]["volumes"] if one["name"] == "gpu-validator")
    files = [f"{mount['mountPath']}/{name}" for name in configmap["data"]]

    assert [text for one in objects if (text := invalid(one, "1.37"))] == []
    assert volume["configMap"]["name"] == configmap["metadata"]["name"]
    assert volume["configMap"]["defaultMode"] & 0o111  # a script that cannot run is Unknown
    assert MONITOR["rules"][0]["path"] in files
    assert container["command"][:2] == ["/node-problem-detector", "--logtostderr"]
    flag, _, path = container["command"][2].partition("=")
    assert flag == "--config.custom-plugin-monitor"
    assert path in files
    assert {one["name"] for one in container["volumeMounts"]} == {"gpu-validator", "log"}


def test_the_network_policy_lets_the_detector_in() -> None:
    """It runs in kube-system."""
    policy = yaml.safe_load((KUBERNETES / "base/networkpolicy.yaml").read_text())
    names = [
        one["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for one in policy["spec"]["ingress"][0]["from"]
    ]

    assert "kube-system" in names
