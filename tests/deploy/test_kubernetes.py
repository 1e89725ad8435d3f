"""Every rendered object is valid, hardened and in its role; both renderers make the same."""

import copy
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.deploy.cluster import (
    CHART,
    KUBERNETES,
    MODES,
    ROOT,
    VERSIONS,
    Object,
    breaches,
    container_of,
    environment,
    find,
    helm,
    invalid,
    kustomize,
    misfits,
    mode,
    ours,
    promised_gpus,
    rendered,
    unfit,
)
from validator.settings.model import Settings, Web
from validator.settings.values import host_port

pytestmark = pytest.mark.slow

#: The ends of the names of the two rules.
RULES: Final = ("startup", "failed")

#: What a mode gives up of the policy, and nothing else.
GIVEN_UP: Final = {
    "feature-file": {"root", "host-folder"},
    "status-file": {"root", "host-folder"},
    "privileged": {"root", "privileged"},
    "everything": {"root", "host-folder"},
}

EXAMPLE: Final = """
apiVersion: batch/v1
kind: Job
metadata: {name: train, labels: {gpu-validator/gate: "true"}}
spec:
  template:
    spec:
      restartPolicy: Never
      initContainers: [{name: fetch, image: a/fetch:1}]
      containers: [{name: train, image: a/train:1}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: no-gate}
spec:
  template:
    spec:
      restartPolicy: Never
      initContainers: [{name: fetch, image: a/fetch:1}]
      containers: [{name: train, image: a/train:1}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: serve, labels: {gpu-validator/gate: "true"}}
spec:
  selector: {matchLabels: {app: serve}}
  template:
    metadata: {labels: {app: serve}}
    spec:
      containers: [{name: serve, image: a/serve:1}]
"""


def pod_of(objects: list[Object], kind: str = "DaemonSet") -> Object:
    """The pod template of the one workload of a kind."""
    template: Object = find(objects, kind)["spec"]["template"]
    return template


@pytest.fixture(scope="module")
def base() -> list[Object]:
    """What the base renders to."""
    return mode("default")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """What the one-shot acceptance renders to."""
    return kustomize(tmp_path_factory.mktemp("job"), resources=(KUBERNETES / "job",))


def gated(folder: Path) -> list[Object]:
    """Two workloads with the gate's label and one without, rendered with the gate."""
    (folder / "workload.yaml").write_text(EXAMPLE)
    return kustomize(folder, KUBERNETES / "gate", resources=("workload.yaml",))


@pytest.mark.parametrize("name", MODES)
def test_every_object_of_a_mode_is_valid(name: str) -> None:
    """By the schemas of the oldest and the newest supported release, without unknown fields."""
    objects = mode(name)

    assert len(objects) >= 7
    for version in VERSIONS:
        assert [text for one in objects if (text := invalid(one, version))] == []


def test_job_and_gate_are_valid(job: list[Object], tmp_path: Path) -> None:
    """The same, of what does not build on the base."""
    objects = [*job, *gated(tmp_path)]

    for version in VERSIONS:
        assert [text for one in objects if (text := invalid(one, version))] == []


@pytest.mark.parametrize("name", MODES)
def test_the_chart_makes_what_kustomize_makes(name: str) -> None:
    """Object by object, but for the namespace, which helm makes itself, and helm's own labels."""
    by_kustomize = [one for one in mode(name) if one["kind"] != "Namespace"]
    by_helm = helm(*MODES[name][1])

    assert {_key(one): plain(one) for one in by_helm} == {
        _key(one): plain(one) for one in by_kustomize
    }


def _key(one: Object) -> str:
    return f"{one['kind']}/{plain(one)['metadata']['name']}"


def plain(one: Object) -> Object:
    """An object without what differs by the renderer: names with a hash, helm's labels, order."""
    text = re.sub(r"\bgpu-validator-[a-z0-9]{10}\b", "gpu-validator", yaml.safe_dump(one))
    flat: Object = yaml.safe_load(text)
    for label in ("app.kubernetes.io/managed-by", "helm.sh/chart"):
        flat["metadata"]["labels"].pop(label, None)
    _forget_release(flat)
    if flat["kind"] == "ConfigMap":
        flat["data"] = {name: yaml.safe_load(content) for name, content in flat["data"].items()}
    if flat["kind"] == "DaemonSet":
        template = flat["spec"]["template"]
        template["metadata"]["annotations"].pop("checksum/config", None)
        template["spec"]["containers"].sort(key=_name)
        template["spec"]["volumes"].sort(key=_name)
        for container in template["spec"]["containers"]:
            container["env"].sort(key=_name)
            container["volumeMounts"].sort(key=_name)
    return flat


def _forget_release(place: Any) -> None:
    if isinstance(place, dict):
        place.pop("app.kubernetes.io/instance", None)
    for one in place.values() if isinstance(place, dict) else place:
        if isinstance(one, dict | list):
            _forget_release(one)


def _name(one: Object) -> str:
    return str(one["name"])


def test_a_difference_between_the_two_would_be_seen(base: list[Object]) -> None:
    """What the comparison sets aside is not what matters."""
    other = copy.deepcopy(find(base, "DaemonSet"))
    other["spec"]["template"]["spec"]["containers"][0]["env"][1]["value"] = "none"

    assert plain(other) != plain(find(base, "DaemonSet"))


@pytest.mark.parametrize("name", MODES)
def test_a_mode_gives_up_no_more_than_it_must(name: str) -> None:
    """The default is hardened whole; each other mode says what it gives up."""
    pod = pod_of(mode(name))

    assert set(breaches(pod)) == GIVEN_UP.get(name, set())
    assert [*misfits(pod), *unfit(pod)] == []


@pytest.mark.parametrize("name", MODES)
def test_the_namespace_admits_the_mode(name: str) -> None:
    """Restricted as long as nothing that this level forbids is asked for, else privileged."""
    objects = mode(name)
    label = "pod-security.kubernetes.io/enforce"
    level = find(objects, "Namespace")["metadata"]["labels"][label]

    assert level == ("privileged" if GIVEN_UP.get(name) else "restricted")


def test_the_job_is_hardened_and_on_the_whole_node(job: list[Object]) -> None:
    """As the daemon's pod, but for probes."""
    pod = pod_of(job, "Job")

    assert [*breaches(pod), *misfits(pod)] == []


def test_the_gate_is_hardened(tmp_path: Path) -> None:
    """Of our own container in the user's pod; the rest of that pod is the user's."""
    pod = copy.deepcopy(pod_of(gated(tmp_path), "Deployment"))
    pod["spec"]["containers"] = []
    pod["spec"] |= {"automountServiceAccountToken": False, "enableServiceLinks": False}

    assert list(breaches(pod)) == []


def _set(path: str, value: Any) -> Callable[[Object], None]:
    """An edit: a path such as `spec/containers/0/image`, and its new value; None removes."""

    def edit(pod: Object) -> None:
        *parents, last = (part.replace("~1", "/") for part in path.split("/"))
        place: Any = pod
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        if value is None:
            del place[int(last) if isinstance(place, list) else last]
        elif isinstance(place, list):
            place.insert(int(last), value)
        else:
            place[last] = value

    return edit


_OURS = "spec/containers/0"
_HOST = {"name": "host", "hostPath": {"path": "/etc"}}
_TOKEN = {"name": "config", "projected": {"sources": []}}
MUTATIONS: Final = [
    ("host-namespace", _set("spec/hostPID", True)),
    ("host-namespace", _set("spec/hostNetwork", True)),
    ("token", _set("spec/automountServiceAccountToken", None)),
    ("token", _set("spec/volumes/0", _TOKEN)),
    ("service-links", _set("spec/enableServiceLinks", None)),
    ("host-folder", _set("spec/volumes/0", _HOST)),
    ("root", _set("spec/securityContext/runAsNonRoot", None)),
    ("root", _set(f"{_OURS}/securityContext/runAsUser", 0)),
    ("seccomp", _set("spec/securityContext/seccompProfile", {"type": "Unconfined"})),
    ("privileged", _set(f"{_OURS}/securityContext/privileged", True)),
    ("escalation", _set(f"{_OURS}/securityContext/allowPrivilegeEscalation", None)),
    ("writable-root", _set(f"{_OURS}/securityContext/readOnlyRootFilesystem", False)),
    ("capabilities", _set(f"{_OURS}/securityContext/capabilities/drop", [])),
    ("capabilities", _set(f"{_OURS}/securityContext/capabilities/add", ["SYS_ADMIN"])),
    ("no-requests", _set(f"{_OURS}/resources/requests/memory", None)),
    ("no-limit", _set(f"{_OURS}/resources/limits", {})),
    ("no-tmp", _set(f"{_OURS}/volumeMounts/1", None)),
    ("no-shm", _set(f"{_OURS}/volumeMounts/2", None)),
    ("no-shm", _set("spec/volumes/2/emptyDir/medium", None)),
    ("reserves-gpus", _set(f"{_OURS}/resources/limits/nvidia.com~1gpu", 1)),
    ("no-node-name", _set(f"{_OURS}/env/0", None)),
    ("promises-no-gpu", _set(f"{_OURS}/env/3/value", "0")),
    ("promises-no-gpu", _set(f"{_OURS}/env/3/value", "auto")),
    ("sees-no-gpu", _set(f"{_OURS}/env/1/value", "void")),
    ("sees-no-gpu", _set("spec/runtimeClassName", None)),
    ("not-on-tainted-nodes", _set("spec/tolerations", [])),
    ("not-on-gpu-nodes", _set("spec/nodeSelector", None)),
    ("probe-paths", _set(f"{_OURS}/livenessProbe/httpGet/path", "/readyz")),
    ("probe-paths", _set(f"{_OURS}/readinessProbe/httpGet/path", "/healthz")),
    ("probe-ports", _set(f"{_OURS}/livenessProbe/httpGet/port", "htpp")),
    ("may-be-preempted", _set("spec/priorityClassName", None)),
]


@pytest.mark.parametrize(
    ("rule", "edit"), MUTATIONS, ids=[f"{place}-{one[0]}" for place, one in enumerate(MUTATIONS)]
)
def test_the_policy_sees_each_breach_alone(
    rule: str, edit: Callable[[Object], None], base: list[Object]
) -> None:
    """One edit of the sound pod, one rule broken."""
    pod = copy.deepcopy(pod_of(base))
    edit(pod)

    assert {*breaches(pod), *misfits(pod), *unfit(pod)} == {rule}


INVALID: Final = [
    ("DaemonSet", _set("spec/template/spec/containers/0/imagePullPolcy", "Always")),
    ("DaemonSet", _set("spec/template/spec/containers/0/ports/0/containerPort", "8790x")),
    ("Service", _set("spec/internalTrafficPolicy", 1)),
    ("NetworkPolicy", _set("spec/policyTypes", "Ingress")),
    ("PodDisruptionBudget", _set("spec/unhealthyPodEvictionPolicies", "AlwaysAllow")),
    ("PodMonitor", _set("spec/podMetricsEndpoints/0/intervall", "30s")),
    ("NodeReadinessRule", _set("spec/enforcementMode", "forever")),
    ("NodeReadinessRule", _set("spec/taint/key", "example.com/not-ready")),
]


@pytest.mark.parametrize(
    ("kind", "edit"), INVALID, ids=[f"{place}-{one[0]}" for place, one in enumerate(INVALID)]
)
def test_the_schemas_see_a_wrong_object(kind: str, edit: Callable[[Object], None]) -> None:
    """A misspelt key, a wrong type, something missing: each is told, in both releases."""
    ending = "-failed" if kind == "NodeReadinessRule" else ""
    one = copy.deepcopy(find(mode("everything"), kind, ending))
    sound = [invalid(one, version) for version in VERSIONS]
    edit(one)

    assert sound == ["", ""]
    assert all(invalid(one, version) for version in VERSIONS)


def test_everything_selects_the_daemons_pods_alone(job: list[Object]) -> None:
    """DaemonSet, Service, budget, network policy and monitor, by labels and by port."""
    objects = mode("everything")
    labels, other = (
        pod["metadata"]["labels"].items() for pod in (pod_of(objects), pod_of(job, "Job"))
    )
    selectors = [
        find(objects, "Service")["spec"]["selector"],
        find(objects, "DaemonSet")["spec"]["selector"]["matchLabels"],
        find(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        find(objects, "PodMonitor")["spec"]["selector"]["matchLabels"],
    ]
    wide = find(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]

    for selector in selectors:
        assert selector.items() <= labels
        assert not selector.items() <= other
    assert wide.items() <= labels
    assert wide.items() <= other  # the one-shot pod needs no network either


def test_the_port_is_the_daemons(base: list[Object]) -> None:
    """Container, service, monitor, policy and reporter name the port that the daemon listens on."""
    port = host_port(Web().listen_address[0])[1]
    objects = mode("everything")
    names = {one["name"]: one["containerPort"] for one in ours(pod_of(base))["ports"]}
    reporter = container_of(pod_of(objects), "readiness-reporter")

    assert names == {"http": port}
    assert find(base, "Service")["spec"]["ports"][0]["port"] == port
    assert find(base, "Service")["spec"]["ports"][0]["targetPort"] == "http"
    assert find(objects, "PodMonitor")["spec"]["podMetricsEndpoints"][0]["port"] == "http"
    assert find(base, "NetworkPolicy")["spec"]["ingress"][0]["ports"] == [{"port": "http"}]
    assert "--url" not in reporter["args"]  # its default is the daemon's, too


def test_a_sick_node_can_be_asked_from_its_own_node(base: list[Object]) -> None:
    """Its pod is not ready, and must stay reachable; no other node's pod may answer for it."""
    spec = find(base, "Service")["spec"]

    assert spec["internalTrafficPolicy"] == "Local"
    assert spec["publishNotReadyAddresses"] is True


def test_a_sick_node_can_be_drained(base: list[Object]) -> None:
    """The budget never says no, and a share or maxUnavailable cannot be had for a DaemonSet."""
    spec = find(base, "PodDisruptionBudget")["spec"]

    assert spec["minAvailable"] == 0
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert "maxUnavailable" not in spec


def test_nothing_goes_out_but_what_the_reporter_asks(base: list[Object]) -> None:
    """The daemon needs no network; with the reporter, the API server's ports."""
    with_reporter = find(mode("node-readiness"), "NetworkPolicy")["spec"]

    assert find(base, "NetworkPolicy")["spec"]["egress"] == []
    assert with_reporter["egress"] == [{"ports": [{"port": 443}, {"port": 6443}]}]


def test_the_chart_without_a_namespace_lets_nobody_in() -> None:
    """An empty `from` would let everybody in."""
    spec = find(helm("networkPolicy.fromNamespaces=null"), "NetworkPolicy")["spec"]

    assert spec["ingress"] == []
    assert "Ingress" in spec["policyTypes"]


def test_the_reporter_has_what_it_does_and_no_more() -> None:
    """Read a node, write some of its conditions; no GPU; the daemon's own image."""
    objects = mode("node-readiness")
    pod = pod_of(objects)
    reporter = container_of(pod, "readiness-reporter")
    subject = find(objects, "ClusterRoleBinding")["subjects"][0]

    assert find(objects, "ClusterRole")["rules"] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
    ]
    assert subject["name"] == pod["spec"]["serviceAccountName"]
    assert environment(reporter)["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert reporter["image"] == ours(pod)["image"]


def test_the_rules_wait_for_what_the_reporter_writes(job: list[Object]) -> None:
    """Types, taints and tolerations meet; one rule ends with the first verdict, one never."""
    objects = mode("node-readiness")
    startup, failed = (find(objects, "NodeReadinessRule", f"-{one}")["spec"] for one in RULES)
    reporter = container_of(pod_of(objects), "readiness-reporter")
    prefix = reporter["args"][reporter["args"].index("--prefix") + 1]

    assert startup["conditions"] == [{"type": f"{prefix}Ready", "requiredStatus": "True"}]
    assert startup["enforcementMode"] == "bootstrap-only"
    assert failed["conditions"] == [
        {"type": f"{prefix}Failed", "requiredStatus": "False", "defaultStatus": "False"}
    ]
    assert failed["enforcementMode"] == "continuous"
    assert startup["taint"]["key"] != failed["taint"]["key"]  # the controller refuses one for both
    for rule in (startup, failed):
        toleration = {"key": rule["taint"]["key"], "operator": "Exists"}
        assert rule["taint"]["effect"] == "NoSchedule"
        for pod in (pod_of(objects), pod_of(job, "Job")):
            assert toleration in pod["spec"]["tolerations"]


def test_another_namespace_reaches_everything(tmp_path: Path) -> None:
    """One line in the user's kustomization, or helm's flag, moves every object and subject."""
    kustomize(tmp_path, *(KUBERNETES / "components" / one for one in MODES["everything"][0]))
    file = tmp_path / "kustomization.yaml"
    file.write_text(f"{file.read_text()}\nnamespace: checks\n")
    by_kustomize = rendered(tmp_path)
    by_helm = helm(*MODES["everything"][1], namespace="checks")

    for one in [*by_kustomize, *by_helm]:
        if one["kind"] in {"Namespace", "ClusterRole", "ClusterRoleBinding"}:
            assert "namespace" not in one["metadata"]
        elif one["kind"] != "NodeReadinessRule":  # kustomize does not know that it has none
            assert one["metadata"]["namespace"] == "checks"
    for objects in (by_kustomize, by_helm):
        assert find(objects, "ClusterRoleBinding")["subjects"][0]["namespace"] == "checks"
    assert find(by_kustomize, "Namespace")["metadata"]["name"] == "checks"


# -- the gate ---------------------------------------------------------------------------------


def test_the_gate_stands_before_the_labelled_workloads(tmp_path: Path) -> None:
    """First among the init containers, and nowhere else."""
    objects = {one["metadata"]["name"]: one["spec"]["template"] for one in gated(tmp_path)}
    gates = {
        name: [one["name"] for one in pod["spec"].get("initContainers", [])]
        for name, pod in objects.items()
    }

    assert gates == {
        "train": ["gpu-validator", "fetch"],
        "serve": ["gpu-validator"],
        "no-gate": ["fetch"],
    }


def test_the_gate_asks_for_the_gpus_that_it_promises(tmp_path: Path) -> None:
    """The device plugin gives it the workload's GPUs, and it expects as many."""
    container = ours(pod_of(gated(tmp_path), "Deployment"))
    expected = environment(container)["GPU_VALIDATOR_EXPECT__GPUS"]

    assert str(container["resources"]["limits"]["nvidia.com/gpu"]) == expected
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_a_verdict_is_final_and_a_doubt_is_tried_again(job: list[Object]) -> None:
    """The job's rule knows `check`'s exit codes: 1 ends it, 2 does not."""
    spec = find(job, "Job")["spec"]
    rule = spec["podFailurePolicy"]["rules"][0]

    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["values"] == [1]
    assert rule["onExitCodes"]["containerName"] == ours(spec["template"])["name"]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


# -- what runs in the containers --------------------------------------------------------------


def accepts(container: Object, folder: Path, config: str | None = None) -> str:
    """Run a container's arguments through the real command, checking its configuration alone.

    Gives what it complains of; the folder stands for /etc/gpu-validator, and one in it for the
    root that files of the node are mounted below.
    """
    variables = environment(container)
    for name in [name for name in variables if "_FILES__" in name]:
        place = folder / "root" / variables[name].lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        variables[name] = str(place)
    arguments = [str(one) for one in container["args"]]
    if config is not None:
        (folder / "config.yaml").write_text(config)
        arguments = [one.replace("/etc/gpu-validator", str(folder)) for one in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "validator", *arguments, "--config.check"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr


def test_the_daemon_starts_with_what_the_manifests_say(tmp_path: Path) -> None:
    """Arguments, variables and settings file of the mode with all variables, for both renderers."""
    for objects in (mode("everything"), helm(*MODES["everything"][1])):
        config = find(objects, "ConfigMap")["data"]["config.yaml"]
        container = ours(pod_of(objects))

        assert {"GPU_VALIDATOR_FILES__READY", "GPU_VALIDATOR_FILES__NFD"} <= environment(
            container
        ).keys()
        assert accepts(container, tmp_path, config) == ""
        assert "runn" in accepts(container, tmp_path, config + "\nrunn: {}\n")


def test_job_and_gate_start_with_what_the_manifests_say(job: list[Object], tmp_path: Path) -> None:
    """The one-shot command lines are accepted, and a wrong one would not be."""
    for container in (ours(pod_of(job, "Job")), ours(pod_of(gated(tmp_path), "Deployment"))):
        wrong = {**container, "args": [*container["args"], "--profil", "quick"]}

        assert accepts(container, tmp_path) == ""
        assert "--profil" in accepts(wrong, tmp_path)


def test_the_settings_file_is_where_the_arguments_say(base: list[Object]) -> None:
    """The ConfigMap's key, its mount and the flag meet."""
    pod = pod_of(base)
    mount = next(one for one in ours(pod)["volumeMounts"] if one["name"] == "config")
    volume = next(one for one in pod["spec"]["volumes"] if one["name"] == "config")
    configmap = find(base, "ConfigMap")

    assert volume["configMap"]["name"] == configmap["metadata"]["name"]
    for key in configmap["data"]:
        assert f"{mount['mountPath']}/{key}" in ours(pod)["args"]


@pytest.mark.parametrize(("name", "setting"), [("feature-file", "nfd"), ("status-file", "ready")])
def test_the_files_land_in_the_hosts_folder(
    name: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable is a setting that we read, and its path lies below the mount of the host's."""
    pod = pod_of(mode(name))
    for variable, value in environment(ours(pod)).items():
        if variable.startswith("GPU_VALIDATOR_"):
            monkeypatch.setenv(variable, value)
    volume = next(one for one in pod["spec"]["volumes"] if "hostPath" in one)
    mount = next(one for one in ours(pod)["volumeMounts"] if one["name"] == volume["name"])
    path = getattr(Settings().files, setting)

    assert path is not None
    assert str(path.parent) == mount["mountPath"]
    assert "readOnly" not in mount


def test_the_tags_are_this_versions() -> None:
    """Chart, base, job and gate name the image of the package's own version."""
    version = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[
        0
    ]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    tags = [
        yaml.safe_load((KUBERNETES / name / "kustomization.yaml").read_text())["images"][0][
            "newTag"
        ]
        for name in ("base", "job", "gate", "components/node-readiness")
    ]

    assert {chart["version"], chart["appVersion"], *tags} == {version}


# -- the chart's values -----------------------------------------------------------------------

TWO_POOLS = "pools.a.expectGpus=8,pools.a.nodeSelector.p=x,pools.b.expectGpus=1"


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("expectGpus=0", "expectGpus"),
        ("expectGPUs=8", "expectGPUs"),
        ("gpuAccess=none", "gpuAccess"),
        (r"resources.limits.nvidia\.com/gpu=1", "nvidia.com/gpu"),
        ("image.repository=", "repository"),
        ("podMonitor.enable=true", "enable"),
        ("maxUnavailable=3", "maxUnavailable"),
        ("tolerations[0].kee=a", "kee"),
        ("extraEnv[0].nam=A", "nam"),
        ("extraEnv[0].name=GPU_VALIDATOR_EXPECT__GPUS", "expectGpus"),
        ("extraVolumes[0].name=tmp,extraVolumes[0].emptyDir.medium=Memory", "/extraVolumes/0/name"),
        ("extraVolumeMounts[0].name=a", "mountPath"),
        ("securityContext.privileged=true", "privileged"),
        ("podSecurityContext.runAsRoot=true", "runAsRoot"),
        (r"podLabels.app\.kubernetes\.io/name=other", "podLabels"),
        (r"labels.helm\.sh/chart=other", "labels"),
        ("pools.a.expectGpus=0,pools.a.nodeSelector.pool=a", "/pools/a/expectGpus"),
        ("pools.a.expectGpus=8", "nodeSelector"),
        ("pools.A.expectGpus=8,pools.A.nodeSelector.pool=a", "/pools"),
        ("pools.a.expectGpus=8,pools.a.nodeSelector.pool=a,pools.a.config.x=y", "config"),
        ("image.digest=sha256:12", "digest"),
        ("terminationGracePeriodSeconds=1", "terminationGracePeriodSeconds"),
        ("podMonitor.enabled=true,serviceMonitor.enabled=true", "twice"),
        (r"nodeReadiness.enabled=true,nodeSelector.nvidia\.com/gpu\.present=null", "nodes"),
        ("statusFile.hostPath=run", "hostPath"),
        ("shm.sizeLimit=null", "sizeLimit"),
        ("nodeReadiness=null", "nodeReadiness"),
        ("nodeSelector=null", "nodeSelector"),
        ("securityContext=null", "securityContext"),
        ("podMonitor.interval=null", "interval"),
        ("podMonitor.interval=5s", "interval"),  # a scrape may take 10 s: the operator drops it
        ("nodeReadiness.interval=100ms", "interval"),
        ("config.expect.gpus=8", "use expectGpus"),  # the chart's 1 would win, unseen
        ("config.files.ready=/run/ready", "use featureFile or statusFile"),
        ("config.web.listen_address=127.0.0.1:8790", "8790 of every address"),
        ("config.web.listen_address=:9000", "8790 of every address"),
        ("config.web.listen_address=[::]:8790", "8790 of every address"),  # IPv6 alone
        ("extraEnv[0].name=GPU_VALIDATOR_WEB__LISTEN_ADDRESS,extraEnv[0].value=:1", "8790"),
        ("extraEnv[0].name=gpu_validator_files__nfd,extraEnv[0].value=/x", "featureFile"),
        ("extraEnv[0].name=A,extraEnv[1].name=A", "twice"),
        ("extraVolumeMounts[0].name=a,extraVolumeMounts[0].mountPath=/dev/shm/", "mountPath"),
        ("updateStrategy.rollingUpdate.maxSurge=1", "maxUnavailable 0"),
        ("updateStrategy.rollingUpdate.maxUnavailable=some", "maxUnavailable"),
        ("nodeReadiness.enabled=true,serviceAccount.create=false", "serviceAccount.name"),
        (
            f"{TWO_POOLS},pools.b.nodeSelector.p=x,pools.b.nodeSelector.q=z",
            "a selects every node of b",
        ),
    ],
)
def test_the_chart_refuses_a_wrong_value(value: str, complaint: str) -> None:
    """Unknown keys, no GPU promised, a GPU reserved: the schema names each."""
    with pytest.raises(ValueError, match=re.escape(complaint)):
        helm(value)


@pytest.mark.parametrize(
    "value",
    [
        "config.web.listen_address=:8790",
        "config.web.listen_address=0.0.0.0:8790",
        "config.expect.torch=>=2.2",
        "updateStrategy.rollingUpdate.maxSurge=1,updateStrategy.rollingUpdate.maxUnavailable=0",
        "nodeReadiness.enabled=true,serviceAccount.create=false,serviceAccount.name=mine",
        f"{TWO_POOLS},pools.b.nodeSelector.p=y",
        f"{TWO_POOLS},pools.b.nodeSelector.p=x,pools.b.tolerations[0].key=b",
        "extraVolumeMounts[0].name=a,extraVolumeMounts[0].mountPath=/tmp/a",
        "podMonitor.interval=1m",
    ],
)
def test_the_chart_takes_what_is_near_a_wrong_value(value: str) -> None:
    """No refusal is wider than its reason."""
    assert find(helm(value), "Service")


def test_the_charts_values_reach_the_pod() -> None:
    """Those that no mode sets."""
    pod = pod_of(
        helm(
            "expectGpus=8",
            "image.repository=registry.example/train",
            "image.tag=v42",
            "image.pullSecrets[0]=key",
            "runtimeClassName=",
            "updateStrategy.rollingUpdate.maxUnavailable=3",
        )
    )

    assert promised_gpus(environment(ours(pod))) == "8"
    assert ours(pod)["image"] == "registry.example/train:v42"
    assert pod["spec"]["imagePullSecrets"] == [{"name": "key"}]
    assert "runtimeClassName" not in pod["spec"]


def test_a_new_setting_restarts_the_pods() -> None:
    """The pod template changes with the configuration, in both renderers."""
    first, second = (pod_of(helm(f"config.log.level={level}")) for level in ("info", "debug"))
    before = pod_of(mode("default"))
    volume = next(one for one in before["spec"]["volumes"] if one["name"] == "config")

    assert first["metadata"]["annotations"] != second["metadata"]["annotations"]
    assert re.fullmatch(r"gpu-validator-[a-z0-9]{10}", volume["configMap"]["name"])


# -- the document -----------------------------------------------------------------------------


def test_every_part_is_in_the_document() -> None:
    """Components, folders and the chart's values can be found by whoever deploys."""
    text = (ROOT / "docs/kubernetes.md").read_text()
    parts = [path.name for path in (KUBERNETES / "components").iterdir() if path.is_dir()]
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    assert [
        name for name in (*parts, "base", "job", "gate", *values) if f"`{name}`" not in text
    ] == []


def test_the_documents_example_renders(tmp_path: Path) -> None:
    """Its kustomization, with the folders of this tree in place of their addresses."""
    text = (ROOT / "docs/kubernetes.md").read_text()
    example = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    address = "https://github.com/gpu-env-validator/gpu-env-validator//"
    for key in ("resources", "components"):
        assert all(one.startswith(address) for one in example[key])
        paths = [ROOT / one.removeprefix(address).partition("?")[0] for one in example[key]]
        example[key] = [os.path.relpath(path, tmp_path.resolve()) for path in paths]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(example))
    objects = rendered(tmp_path)

    pod = pod_of(objects)
    assert ours(pod)["image"] == "registry.example/gpu-env-validator:0.1.0"
    assert promised_gpus(environment(ours(pod))) == "8"
    assert find(objects, "PodMonitor")
    assert [*breaches(pod), *misfits(pod), *unfit(pod)] == []


def test_the_documents_pool_renders(tmp_path: Path) -> None:
    """Its own nodes, its own number, and selectors that find no other pool's pods."""
    text = (ROOT / "docs/kubernetes.md").read_text()
    blocks = [one.partition("```")[0] for one in text.split("```yaml\n")[1:]]
    example = yaml.safe_load(next(one for one in blocks if "nameSuffix" in one))
    for key in ("resources", "components"):
        paths = [KUBERNETES / one.removeprefix("../") for one in example[key]]
        example[key] = [os.path.relpath(path, tmp_path.resolve()) for path in paths]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(example))
    objects = rendered(tmp_path)
    made = find(objects, "DaemonSet")
    wrong = [invalid(one, VERSIONS[0]) for one in objects]

    assert set(wrong) == {""}
    assert made["metadata"]["name"] == "gpu-validator-h100"
    assert made["spec"]["selector"]["matchLabels"]["gpu-validator/pool"] == "h100"
    monitor = find(objects, "PodMonitor")["spec"]["selector"]["matchLabels"]
    assert monitor["gpu-validator/pool"] == "h100"
    for ending in ("failed-h100", "startup-h100"):
        rule = find(objects, "NodeReadinessRule", ending)["spec"]["nodeSelector"]["matchLabels"]
        assert rule["pool"] == "h100"
    assert pod_of(objects)["spec"]["nodeSelector"]["pool"] == "h100"
    assert promised_gpus(environment(ours(pod_of(objects)))) == "8"
    assert find(objects, "Namespace")["metadata"]["name"] == "gpu-validator"


def test_every_file_that_the_document_names_is_there() -> None:
    """Paths in the document's text and commands lead somewhere."""
    text = (ROOT / "docs/kubernetes.md").read_text()
    named = set(re.findall(r"(?:deploy|docs|tools)/[\w./-]*\w", text))

    assert len(named) > 5
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
