"""What the document and the chart's notes tell people to type, by the real kubectl."""

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.cluster import CHART, ROOT, tool
from tests.deploy.components import served
from tests.deploy.test_condition import Cluster, account, in_pod, serving
from validator.cli.condition import keep_conditions
from validator.service.condition import PREFIX

pytestmark = pytest.mark.slow

__all__ = ["account"]  # a fixture

NODES = {"name": "nodes", "singularName": "node", "kind": "Node", "namespaced": False}
DISCOVERY: dict[str, Any] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            {**NODES, "verbs": ["get", "list", "patch"]},
            {**NODES, "name": "nodes/status", "verbs": ["get", "patch"]},
        ],
    },
}


@dataclass
class WithDiscovery(Cluster):
    """An API server that kubectl can ask too."""

    def answer(self, method: str, path: str, kind: str, token: str, body: bytes) -> tuple[int, Any]:
        """Say what there is, else what the node is like."""
        path = path.partition("?")[0]
        if path in DISCOVERY or "openapi" in path:
            return (200, DISCOVERY[path]) if path in DISCOVERY else (404, {})
        _, found = super().answer(method, path, kind, token, body)
        for name in [name for name, one in self.conditions.items() if "$patch" in one]:
            del self.conditions[name]
            found = {"status": {"conditions": list(self.conditions.values())}}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-1"}, **found}
        if path != "/api/v1/nodes":
            return 200, node
        return 200, {"apiVersion": "v1", "kind": "NodeList", "metadata": {}, "items": [node]}


def typed(line: str, port: str, account: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of a document that begins with kubectl."""
    program, *arguments = shlex.split(line)
    assert program == "kubectl"
    return subprocess.run(
        [
            *(tool("kubectl"), f"--server=https://127.0.0.1:{port}", "--token=hand"),
            *(f"--certificate-authority={account / 'ca.crt'}", *arguments),
        ],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "KUBECONFIG": os.devnull},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_way_back_is_what_the_document_says(
    account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure that nobody can disprove any more is taken away by hand, and stays away."""
    text = (ROOT / "docs/kubernetes.md").read_text()
    (line,) = re.findall(r"^kubectl patch node NODE .*$", text, re.MULTILINE)
    standing = {
        "type": "GPUEnvironmentFailed",
        "status": "True",
        "message": "fail: a [failed: a.b; GPUs: 8]",
    }
    cluster = WithDiscovery({"GPUEnvironmentFailed": standing, "Ready": {"type": "Ready"}})
    sound = {
        "/readyz": b"pass: 1 probe\n",
        "/api/v1/probes": b'[{"name": "a", "needs": "device", "devices": [{"device": "cuda:0",'
        b' "status": "pass", "reason": "ok", "failed": [], "left_out": []}]}]',
    }
    cluster.conditions["Ready"]["status"] = "True"
    with served(lambda path, _: sound[path]) as there, serving(cluster, account) as port:
        api = in_pod(monkeypatch, account, port)
        assert keep_conditions(api, f"http://{there}", "gpu-1", PREFIX) == ""
        before = cluster.status("Failed")
        done = typed(line.replace("NODE", "gpu-1"), port, account, tmp_path)
        taken = cluster.status("Failed")
        assert keep_conditions(api, f"http://{there}", "gpu-1", PREFIX) == ""

    assert done.returncode == 0, done.stderr
    assert (before, taken, cluster.status("Failed")) == ("True", None, "False")
    assert cluster.conditions["Ready"]["status"] == "True"
    by_hand = [one for one in cluster.asked if one[3] == "Bearer hand" and one[0] == "PATCH"]
    assert [one[:3] for one in by_hand] == [
        ("PATCH", "/api/v1/nodes/gpu-1/status", "application/strategic-merge-patch+json")
    ]


def test_the_notes_columns_show_the_condition(account: Path, tmp_path: Path) -> None:
    """The command that the chart prints for `nodeReadiness`."""
    done = subprocess.run(
        [
            *(tool("helm"), "install", "a", str(CHART), "--dry-run=client"),
            *("--set", "nodeReadiness.enabled=true"),
        ],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": os.devnull},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (line,) = re.findall(r"^  (kubectl get nodes .*)$", done.stdout, re.MULTILINE)
    ready = {"type": "GPUEnvironmentReady", "status": "Unknown"}
    with serving(WithDiscovery({"GPUEnvironmentReady": ready}), account) as port:
        shown = typed(line, port, account, tmp_path)

    assert shown.returncode == 0, shown.stderr
    assert [one.split() for one in shown.stdout.splitlines()] == [
        ["NAME", "READY"],
        ["gpu-1", "Unknown"],
    ]
