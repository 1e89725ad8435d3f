"""Rules and scrape configurations, held by promtool and by real Prometheus and Alertmanager."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from probes.catalog import CATALOG
from tests.deploy.case import failed
from tests.deploy.cluster import find, helm, mode
from tests.deploy.components import (
    Prometheus,
    alertmanager,
    free_port,
    get,
    process,
    prometheus,
    served,
    tool,
    wait_for,
)
from tests.deploy.promtool_cases import CASES, promtool_case
from tests.deploy.rules import (
    OBJECT,
    PROMETHEUS,
    RULES,
    alerts,
    asked,
    operator_object,
    recorded,
    recorded_names,
)
from tests.deploy.scenarios import CASES_BY_NAME
from tests.validator.service.test_metrics import SHOWN, TOOL, full
from validator.service.metrics import Exposition, Form, families

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = ROOT / "docs" / "runbook.md"
RUNBOOK_URL = "https://github.com/gpu-env-validator/gpu-env-validator/blob/main/docs/runbook.md"
CONFIGURATIONS = sorted(PROMETHEUS.glob("*.yml"))

#: Series that others make: Prometheus itself, node_exporter of a file of ours, kube-state-metrics.
FOREIGN = {
    "up",
    "node_textfile_mtime_seconds",
    "kube_daemonset_status_desired_number_scheduled",
}


def test_the_operator_gets_the_same_rules() -> None:
    """Written again with `python -m tests.deploy.rules`."""
    assert yaml.safe_load(OBJECT.read_text(encoding="utf-8")) == operator_object()


def _promtool(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool("promtool"), *argv], capture_output=True, text=True, timeout=280, check=False
    )


@pytest.mark.parametrize("name", CASES_BY_NAME)
def test_case_is_what_the_product_emits(name: str) -> None:
    """The files in deploy/ are up to date; a renamed metric or label makes them differ.

    Write them again with `python -m tests.deploy.promtool_cases`, and read the difference.
    """
    recorded_case = (CASES / f"{name}.yml").read_text(encoding="utf-8")

    assert yaml.safe_load(recorded_case) == promtool_case(name)


def test_there_is_no_other_case() -> None:
    """What lies in the folder is what the scenarios made."""
    assert {path.stem for path in CASES.iterdir()} == CASES_BY_NAME.keys()


_DAY_MINUTES = 26 * 60
LENGTHS = [
    pytest.param(False, id="up to a day"),
    pytest.param(True, id="of days", marks=pytest.mark.long),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("longer", LENGTHS)
def test_promtool_runs_all_cases(longer: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    """At every moment of every case exactly the alerts fire that it names, with their texts."""
    names = [
        name for name, case in CASES_BY_NAME.items() if (max(case.firing) > _DAY_MINUTES) is longer
    ]
    done = _promtool("test", "rules", *(str(CASES / f"{name}.yml") for name in names))

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == len(names) > 0


@pytest.mark.parametrize("name", alerts())
def test_every_alert_is_seen_to_fire_and_to_be_silent(name: str) -> None:
    """Both directions: in some case it fires, and in others that go on as long it does not."""
    firing = set(_firing_in(name))

    assert firing
    assert CASES_BY_NAME.keys() - firing


def _with(folder: Path, file: str, old: str, new: str) -> Path:
    """The rules, with a text in one of them replaced."""
    shutil.copytree(RULES, folder / "rules")
    path = folder / "rules" / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    (folder / "tests").mkdir()
    return folder


@pytest.mark.parametrize(("expected", "fires"), [(1, True), (0, False)])
def test_a_site_says_how_many_must_report(tmp_path: Path, expected: int, fires: bool) -> None:  # noqa: FBT001
    """With a number in the recording rules a fleet without any target pages, for ever."""
    folder = _with(tmp_path, "recording.yml", "vector(0)\n\n", f"vector({expected})\n\n")
    case = promtool_case("discovery-finds-nothing")
    labels = 'ALERTS{alertname="GpuValidatorAbsent",alertstate="firing",severity="critical"}'
    wanted = [{"labels": labels, "value": 1}] if fires else []
    case["tests"][0]["alert_rule_test"] = []
    case["tests"][0]["promql_expr_test"] = [
        {
            "expr": 'ALERTS{alertstate="firing",alertname="GpuValidatorAbsent"}',
            "eval_time": f"{minute}m",
            "exp_samples": wanted if minute > 10 else [],
        }
        for minute in (8, 30, 380)
    ]
    done = _promtool("test", "rules", str(_write(folder / "tests" / "case.yml", case)))

    assert done.returncode == 0, done.stdout + done.stderr


_NODE = "cluster, job, pool, instance"
_LAST = (
    f"max by ({_NODE}, probe, check, device) "
    "(last_over_time(instance_check:gpu_validator_failed:timestamp[1h])) > 0"
)
_KEEP = f"""{_LAST}
            unless on ({_NODE}, probe, device) gpu_validator_probe_success == 1"""

#: Parts of the rule that remembers a failed check: what takes their place, and the case for it.
LATCH = [
    (_KEEP, _KEEP.replace(_LAST, "vector(0) > 0"), "failed-and-down"),
    (
        f"unless on ({_NODE}, probe, device) gpu_validator_check_failed\n",
        "\n",
        "failed-then-in-another-check",
    ),
    (
        'gpu_validator_probe_reason{reason=~"disabled|not_applicable"}\n',
        "vector(0) > 0\n",
        "failed-and-not-applicable",
    ),
    (
        f'unless on ({_NODE}, probe) gpu_validator_probe_success{{device="unknown"}}',
        "",
        "failed-under-load-and-restarted",
    ),
    (
        f"> 0\n              )\n              and on ({_NODE}) gpu_validator_node_healthy == 1\n",
        "> 0\n              )\n              and on () vector(0) > 0\n",
        "failed-and-switched-off",
    ),
    (
        f"> 0\n              )\n              and on ({_NODE}) gpu_validator_node_healthy == 1\n",
        f"> 0\n              )\n              and on ({_NODE}) gpu_validator_node_healthy\n",
        "failed-and-then-without-a-worker",
    ),
    (
        f"or\n              group by ({_NODE}) (last_over_time(up[1h]) == 0)\n",
        "\n",
        "failed-and-down",
    ),
    ("(last_over_time(up[1h]) == 0)", "(up == 0)", "failed-and-down-and-prometheus-restarts"),
    (
        "(gpu_validator_node_healthy[1h]))\n              or",
        "(up[1w]))\n              or",
        "failed-and-removed",
    ),
    (f"0 * ({_LAST})", "vector(0) > 0", "failed-once-restarted-thrice"),
]


def test_a_summary_fits_on_a_phone() -> None:
    """At most 120 characters, with a node's name as long as clouds give and any check of ours."""
    node = "gke-production-h100-pool-1a2b3c4d-x9z7.local"
    checks = [(spec.name, check) for spec in CATALOG for check in spec.promises]
    told = [failed(probe=probe, checks=(f"{check} on cuda:1",)) for probe, check in checks]
    cases = (case.firing.values() for case in CASES_BY_NAME.values())
    told += [one for firing in cases for at_once in firing for one in at_once if one.summary]
    summaries = [(one.summary or "").replace("node-1", node) for one in told]

    assert [one for one in summaries if len(one) > 120] == []


@pytest.mark.long
@pytest.mark.parametrize(("old", "new", "name"), LATCH, ids=[name for *_, name in LATCH])
def test_a_spoilt_latch_is_found(tmp_path: Path, old: str, new: str, name: str) -> None:
    """Each part of the rule that remembers a failed check is held by a case."""
    folder = _with(tmp_path, "recording.yml", old, new)
    done = _promtool("test", "rules", str(shutil.copy(CASES / f"{name}.yml", folder / "tests")))

    assert done.returncode == 1, done.stdout
    assert "GpuValidatorCheckFailed" in done.stdout + done.stderr


def test_a_device_is_counted_only_by_what_sees_devices() -> None:
    """The probes that the count of GPUs leaves out are those that run without torch."""
    without_torch = "|".join(spec.name for spec in CATALOG if not spec.needs_torch)

    assert f'{{probe!~"{without_torch}",' in recorded()["instance:gpu_validator_gpus:count"]


def _firing_in(alert: str) -> list[str]:
    return [
        name
        for name, case in CASES_BY_NAME.items()
        if any(one.alert == alert for expected in case.firing.values() for one in expected)
    ]


def _mutated(folder: Path, alert: str, mutation: str) -> Path:
    """The rules with one alert spoilt."""
    shutil.copytree(RULES, folder / "rules")
    content = yaml.safe_load((RULES / "alerts.yml").read_text(encoding="utf-8"))
    (rule,) = (one for one in content["groups"][0]["rules"] if one["alert"] == alert)
    if mutation == "never fires":
        rule["expr"] = "vector(0) > 1"
    elif mutation == "always fires":
        rule["expr"] = "vector(1)"
    else:
        del rule[mutation]
    (folder / "rules" / "alerts.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


MUTATIONS = [
    pytest.param(alert, mutation, marks=() if mutation == "never fires" else pytest.mark.long)
    for alert, rule in alerts().items()
    for mutation in ("never fires", "always fires", "for", "keep_firing_for")
    if " " in mutation or mutation in rule
]


@pytest.mark.parametrize(("alert", "mutation"), MUTATIONS)
def test_a_spoilt_rule_is_found(tmp_path: Path, alert: str, mutation: str) -> None:
    """The cases can fail: each rule that never fires, always fires, or does not wait, trips one."""
    folder = _mutated(tmp_path, alert, mutation)
    (folder / "tests").mkdir()
    # The longest cases take a second each: a rule is held by the shortest in which it fires.
    name = min(_firing_in(alert), key=lambda one: max(CASES_BY_NAME[one].firing))
    if mutation == "keep_firing_for":
        name = "one-gpu-fails-and-recovers"
    case = shutil.copy(CASES / f"{name}.yml", folder / "tests")
    done = _promtool("test", "rules", str(case))

    assert done.returncode == 1
    assert alert in done.stdout + done.stderr


def test_rules_ask_for_what_is_emitted() -> None:
    """Every metric of every rule is one of ours, of our process, or of Prometheus itself."""
    latest = full()
    exposition = Exposition(lambda: families(latest, SHOWN, TOOL)).read(Form()).decode()
    emitted = {s.name for f in text_string_to_metric_families(exposition) for s in f.samples}
    everything = [*recorded().values(), *(rule["expr"] for rule in alerts().values())]

    assert asked() - FOREIGN <= emitted
    assert {
        "gpu_validator_probe_status",
        "gpu_validator_node_healthy",
        "process_start_time_seconds",
    } <= asked()
    assert set().union(*map(recorded_names, everything)) <= recorded().keys()


def test_every_rule_tells_clusters_apart() -> None:
    """A ruler of Mimir or Thanos sees nodes of one name in two clusters: they stay two."""
    rules = {name: rule["expr"] for name, rule in alerts().items()} | recorded()
    grouped = [
        (name, labels)
        for name, expression in rules.items()
        for labels in re.findall(r"\b(?:by|on) ?\(([^)]+)\)", expression)
    ]

    assert len(grouped) > 50
    assert [one for one in grouped if "cluster" not in one[1].split(", ")] == []


def test_the_page_names_what_there_is() -> None:
    """Alerts, recorded series and metrics exist; who evaluates elsewhere finds how."""
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    exposition = Exposition(lambda: families(full(), SHOWN, TOOL)).read(Form()).decode()
    series = {name for name in recorded_names(page) if ":gpu_validator_" in name}
    plain = re.sub(r"\w+:\w+:\w+", "", page)
    by_job = {name for name, rule in alerts().items() if "{job=~" in rule["expr"]}
    told = page.partition("asks for scrape jobs")[0].rpartition("\n\n")[2]
    told += page.partition("asks for scrape jobs")[2].partition("no other rule names a job")[0]

    assert set(re.findall(r"GpuValidator\w+", page)) <= alerts().keys()
    assert series <= recorded().keys()
    assert len(series) >= 2
    for name in re.findall(r"gpu_validator_\w+", plain):
        assert re.search(rf"^{name}[{{ ]", exposition, re.MULTILINE), name
    assert set(re.findall(r"GpuValidator\w+", told)) == by_job
    for words in ("mimirtool rules load", "Thanos Ruler", "/keep_firing_for/d"):
        assert words in page


def test_promtool_lints_the_rules() -> None:
    """No error and no duplicate rule."""
    done = _promtool("check", "rules", "--lint-fatal", *map(str, sorted(RULES.glob("*.yml"))))

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_configuration_is_valid(path: Path) -> None:
    """Promtool takes the file and finds both rule files from it."""
    done = _promtool("check", "config", str(path))
    if "kubernetes_sd_configs not found" in done.stderr:
        pytest.skip("this promtool was built without Kubernetes service discovery")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files found" in done.stdout


def test_a_wrong_configuration_is_found(tmp_path: Path) -> None:
    """The test above can fail."""
    wrong = tmp_path / "prometheus.yml"
    content = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    wrong.write_text(content.replace("static_configs", "static_config"), encoding="utf-8")

    assert _promtool("check", "config", str(wrong)).returncode != 0


def _jobs() -> Iterator[str]:
    """The job label of every way to scrape the daemon that deploy/ has."""
    for path in CONFIGURATIONS:
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["scrape_configs"]:
            if job["job_name"] != "node":
                yield job["job_name"]
    # The operator's default: namespace and name of the object.
    for path in (ROOT / "deploy" / "kubernetes").rglob("*.yaml"):
        for one in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if one and one.get("kind") == "PodMonitor":
                yield f"{one['metadata'].get('namespace', 'any')}/{one['metadata']['name']}"


def test_a_validator_that_is_down_is_seen_in_every_job() -> None:
    """GpuValidatorDown asks for the job by a pattern: all jobs of deploy/ match, no other does."""
    expression = alerts()["GpuValidatorDown"]["expr"]
    (pattern,) = re.findall(r'job=~"([^"]*)"', expression)
    jobs = list(_jobs())

    assert len(jobs) >= 3
    assert [job for job in jobs if not re.fullmatch(pattern, job)] == []
    assert not re.fullmatch(pattern, "node")


def test_every_alert_leads_to_its_section() -> None:
    """The runbook has a section an alert and none besides; severities are three."""
    sections = re.findall(
        r"^## (GpuValidator\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE
    )

    assert sorted(sections) == sorted(alerts())
    for name, rule in alerts().items():
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"{RUNBOOK_URL}#{name.lower()}"
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}


@pytest.mark.parametrize("name", ["monitoring.md", "runbook.md"])
def test_links_lead_somewhere(name: str) -> None:
    """What the pages point at is in the repository."""
    page = ROOT / "docs" / name
    targets = re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8"))

    assert targets
    assert [one for one in targets if not (page.parent / one).exists()] == []


def _write(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


POD = {
    "__meta_kubernetes_pod_label_app_kubernetes_io_name": "gpu-env-validator",
    "__meta_kubernetes_pod_label_app_kubernetes_io_component": "daemon",
    "__meta_kubernetes_pod_container_port_name": "http",
    "__meta_kubernetes_pod_phase": "Running",
    "__meta_kubernetes_pod_node_name": "gpu-node-1",
}
OTHERS = {
    "of another application": {"__meta_kubernetes_pod_label_app_kubernetes_io_name": "web"},
    "of the acceptance job": {
        "__meta_kubernetes_pod_label_app_kubernetes_io_component": "acceptance"
    },
    "another port": {"__meta_kubernetes_pod_container_port_name": "debug"},
    "ended": {"__meta_kubernetes_pod_phase": "Succeeded"},
}


POOLS = {
    "gpu-node-1": ({}, {}),
    "gpu-node-2": ({"node_label_cloud_google_com_gke_nodepool": "h100"}, {"pool": "h100"}),
    "gpu-node-3": ({"node_label_karpenter_sh_nodepool": "a100"}, {"pool": "a100"}),
    "gpu-node-4": (
        {"node_label_gpu_validator_pool": "mine", "node_label_eks_amazonaws_com_nodegroup": "a"},
        {"pool": "mine"},
    ),
    "gpu-node-5": ({"pod_label_gpu_validator_pool": "of-the-pod"}, {"pool": "of-the-pod"}),
    "gpu-node-6": (
        {"pod_label_gpu_validator_pool": "l4", "node_label_gpu_validator_pool": "of-the-node"},
        {"pool": "l4"},
    ),
}


def test_kubernetes_discovery_keeps_our_pods_alone(tmp_path: Path) -> None:
    """Real relabelling, over labels as Kubernetes' discovery gives them: a target is its node."""
    content = yaml.safe_load((PROMETHEUS / "scrape-kubernetes.yml").read_text(encoding="utf-8"))
    (job,) = content["scrape_configs"]
    discovery = job.pop("kubernetes_sd_configs")[0]
    assert (discovery["role"], discovery["attach_metadata"]) == ("pod", {"node": True})
    pods = [
        POD
        | {"__meta_kubernetes_pod_node_name": node}
        | {f"__meta_kubernetes_{name}": value for name, value in labels.items()}
        for node, (labels, _) in POOLS.items()
    ]
    pods += [{**POD, **other} for other in OTHERS.values()]
    job["static_configs"] = [
        {"targets": [f"127.0.0.1:{9 + number}"], "labels": pod} for number, pod in enumerate(pods)
    ]
    with prometheus(_write(tmp_path / "prometheus.yml", {"scrape_configs": [job]})) as running:
        targets = wait_for("a target", lambda: running.targets() or None, 20)

    assert sorted((target["labels"] for target in targets), key=lambda one: one["node"]) == [
        {"job": "gpu-env-validator", "instance": node, "node": node, **pool}
        for node, (_, pool) in POOLS.items()
    ]


@pytest.mark.parametrize("way", ["component", "podMonitor", "serviceMonitor"])
def test_the_operator_relabels_alike(way: str) -> None:
    """What names node and pool is the same, in the same order, in every way to scrape pods."""
    content = yaml.safe_load((PROMETHEUS / "scrape-kubernetes.yml").read_text(encoding="utf-8"))
    wanted = [
        (one["target_label"], one["source_labels"], one.get("regex"))
        for one in content["scrape_configs"][0]["relabel_configs"]
        if "target_label" in one
    ]
    objects = mode("pod-monitor") if way == "component" else helm(f"{way}.enabled=true")
    spec = next(one["spec"] for one in objects if one["kind"] in {"PodMonitor", "ServiceMonitor"})
    (endpoint,) = spec.get("podMetricsEndpoints") or spec["endpoints"]
    told = [
        (one["targetLabel"], one["sourceLabels"], one.get("regex"))
        for one in endpoint["relabelings"]
    ]

    assert len(wanted) == 3
    assert sorted(told) == sorted(wanted)


def test_the_pods_own_pool_needs_no_right_on_nodes() -> None:
    """The chart gives the label to the pods of a pool, and the first source of `pool` is it."""
    pools = ("pools.h100.expectGpus=8", "pools.h100.nodeSelector.a=b")
    objects = helm(*pools, "podMonitor.enabled=true")
    (pod,) = (one["spec"]["template"] for one in objects if one["kind"] == "DaemonSet")
    (endpoint,) = find(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]
    sources = endpoint["relabelings"][-1]["sourceLabels"]
    meta = {
        f"__meta_kubernetes_pod_label_{re.sub('[^a-zA-Z0-9]', '_', name)}": value
        for name, value in pod["metadata"]["labels"].items()
    }

    assert meta[sources[0]] == "h100"
    assert "attachMetadata" not in find(objects, "PodMonitor")["spec"]


def test_pods_are_labelled_as_the_discovery_asks() -> None:
    """Labels and port name of the DaemonSet are those that the relabelling keeps."""
    path = ROOT / "deploy" / "kubernetes" / "base" / "daemonset.yaml"
    template = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]["template"]
    labels = template["metadata"]["labels"]
    ports = template["spec"]["containers"][0]["ports"]

    assert labels["app.kubernetes.io/name"] == "gpu-env-validator"
    assert labels["app.kubernetes.io/component"] == "daemon"
    assert "http" in {port["name"] for port in ports}


@contextmanager
def _daemon(folder: Path, port: int, environment: dict[str, str]) -> Iterator[str]:
    """A daemon with one probe, on a node of two fake devices."""
    from probes.catalog import BY_NAME

    configuration = _write(
        folder / "config.yml",
        {"probes": {name: {"enabled": name == "device_transfer"} for name in BY_NAME}},
    )
    address = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "validator", "serve", "--config.file", str(configuration)]
    command += ["--web.listen-address", address]
    with process(command, folder / "daemon.log", environment):
        wait_for("/healthz", lambda: get(f"http://{address}/healthz"), 30)
        yield address


def _healthy(running: Prometheus) -> dict[str, str] | None:
    """The recorded health of each device, None while there is no healthy one."""
    answer = running.ask("device:gpu_validator_healthy:bool")
    told = {one["metric"]["device"]: one["value"][1] for one in answer}
    return told if "1" in told.values() else None


@pytest.mark.lab
@pytest.mark.timeout(300)  # the first test of the emulator compiles it
def test_alert_fires_and_resolves(emulator: Path, tmp_path: Path) -> None:
    """A sick device, seen by a daemon, Prometheus and Alertmanager, and then its recovery."""
    tool("prometheus"), tool("prometheus-alertmanager")
    heard: list[dict[str, Any]] = []

    def hear(_: str, body: bytes) -> bytes:
        heard.extend(json.loads(body)["alerts"])
        return b""

    def told(status: str) -> dict[str, Any] | None:
        ours = (one for one in heard if one["labels"]["alertname"] == "GpuValidatorCheckFailed")
        return next((one for one in ours if one["status"] == status), None)

    rules = yaml.safe_load((RULES / "alerts.yml").read_text(encoding="utf-8"))
    for rule in rules["groups"][0]["rules"]:
        if "keep_firing_for" in rule:
            rule["keep_firing_for"] = "3s"
    _write(tmp_path / "alerts.yml", rules)
    port = free_port()
    environment = {"PYTHONPATH": f"{emulator}:{ROOT}", "GPU_VALIDATOR_EXPECT__GPUS": "2"}
    with served(hear) as receiver:
        manager_file = _write(
            tmp_path / "alertmanager.yml",
            {
                "route": {
                    "receiver": "test",
                    "group_wait": "0s",
                    "group_interval": "1s",
                    "group_by": ["alertname"],
                },
                "receivers": [
                    {"name": "test", "webhook_configs": [{"url": f"http://{receiver}/"}]}
                ],
            },
        )
        with alertmanager(manager_file) as manager:
            configuration = _write(
                tmp_path / "prometheus.yml",
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": [f"{RULES}/recording.yml", "alerts.yml"],
                    "alerting": {"alertmanagers": [{"static_configs": [{"targets": [manager]}]}]},
                    "scrape_configs": [
                        {
                            "job_name": "gpu-env-validator",
                            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
                        }
                    ],
                },
            )
            with prometheus(configuration) as running:
                with _daemon(tmp_path, port, environment | {"EMULATOR_FAULTS": "1:h2d:flip"}):
                    fired = wait_for("the alert", lambda: told("firing"), 120)
                    # Devices are judged side by side: the sick one may be told first.
                    healthy = wait_for("a healthy device", lambda: _healthy(running), 120)
                # It answers no more, and for longer than any alert goes on by itself.
                silent = "time() - max(instance_check:gpu_validator_failed:timestamp > 0) > 10"
                wait_for("ten silent seconds", lambda: running.ask(silent) or None, 60)
                kept = ("GpuValidatorCheckFailed", "firing") in running.alerts()
                proven = told("resolved")
                with _daemon(tmp_path, port, environment | {"EMULATOR_FAULTS": ""}) as address:
                    wait_for("the recovery", lambda: get(f"http://{address}/readyz"), 120)
                    resolved = wait_for("its end", lambda: told("resolved"), 60)

    assert fired["labels"] == {
        "alertname": "GpuValidatorCheckFailed",
        "instance": f"127.0.0.1:{port}",
        "job": "gpu-env-validator",
        "probe": "device_transfer",
        "severity": "critical",
    }
    assert " checks) failed: do not compute here" in fired["annotations"]["summary"]
    assert ": both_at_once on fake:1, " in fired["annotations"]["description"]
    assert healthy == {"fake:0": "1", "fake:1": "0"}
    assert (kept, proven) == (True, None)
    assert resolved["labels"] == fired["labels"]
