"""The Helm chart's values: each reaches its object, each platform's render, no two collide."""

import hashlib
import itertools
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.deploy.cluster import (
    CHART,
    PLATFORMS,
    ROOT,
    VERSIONS,
    Object,
    breaches,
    container_of,
    environment,
    find,
    helm,
    invalid,
    ours,
    promised_gpus,
    tool,
)
from tests.deploy.rules import IN_THE_CHART, OBJECT, operator_object

pytestmark = pytest.mark.slow

ALL: Final = (
    "nodeReadiness.enabled=true",
    "featureFile.enabled=true",
    "statusFile.enabled=true",
    "podMonitor.enabled=true",
    "prometheusRule.enabled=true",
)

#: Every value that takes something of the user's.
USER: Final = """
nameOverride: validator
labels: {team: ml}
image: {repository: registry.example/train, digest: "sha256:%s", pullPolicy: Always}
expectGpus: 8
extraEnv:
  - {name: HTTPS_PROXY, value: "http://proxy:3128"}
  - {name: SECRET, valueFrom: {secretKeyRef: {name: a, key: b}}}
extraEnvFrom: [{configMapRef: {name: more, optional: true}}]
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms: [{matchExpressions: [{key: gpu, operator: Exists}]}]
nodeSelector: {nvidia.com/gpu.present: null, pool: h100}
tolerations: [{key: sku, operator: Equal, value: gpu, effect: NoSchedule}]
priorityClassName: ml-critical
terminationGracePeriodSeconds: 60
updateStrategy: {type: OnDelete, rollingUpdate: null}
podAnnotations: {sidecar.istio.io/inject: "false"}
podLabels: {cost-centre: "42"}
serviceAccount: {name: mine, annotations: {eks.amazonaws.com/role-arn: arn}}
podSecurityContext: {runAsUser: 1000, runAsGroup: null, fsGroup: 2000}
securityContext: {seLinuxOptions: {type: container_t}}
resources: {requests: {cpu: 1}, limits: {memory: 32Gi, ephemeral-storage: 1Gi}}
shm: {sizeLimit: 8Gi}
extraVolumes: [{name: ca, configMap: {name: ca}}]
extraVolumeMounts: [{name: ca, mountPath: /etc/ssl/certs, readOnly: true}]
networkPolicy: {fromNamespaces: [observability], apiServerPorts: [16443]}
serviceMonitor:
  enabled: true
  interval: 15s
  labels: {release: kube-prometheus-stack}
  attachMetadata: {node: true}
prometheusRule: {enabled: true, labels: {release: kube-prometheus-stack}}
nodeReadiness: {enabled: true, interval: 15s, conditionPrefix: Inference, taintPrefix: inference}
""" % ("0" * 64)


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """What the chart makes of the user's values."""
    file = tmp_path_factory.mktemp("user") / "values.yaml"
    file.write_text(USER)
    return helm(files=(file,), release="prod", namespace="checks")


def pods_of(objects: list[Object]) -> dict[str, Object]:
    """The pod templates of the DaemonSets by their names."""
    sets = (one for one in objects if one["kind"] == "DaemonSet")
    return {one["metadata"]["name"]: one["spec"]["template"] for one in sets}


def test_what_the_user_says_is_valid(user: list[Object]) -> None:
    """By the schemas of Kubernetes, without unknown fields."""
    for version in VERSIONS:
        assert [text for one in user if (text := invalid(one, version))] == []


def test_what_the_user_says_reaches_the_pod(user: list[Object]) -> None:
    """Each value where Kubernetes looks for it."""
    made = find(user, "DaemonSet")
    pod = made["spec"]["template"]
    spec, container = pod["spec"], ours(pod)
    seen = {
        "labels": pod["metadata"]["labels"],
        "annotation": pod["metadata"]["annotations"]["sidecar.istio.io/inject"],
        "update": made["spec"]["updateStrategy"],
        "nodes": spec["nodeSelector"],
        "affinity": spec["affinity"]["nodeAffinity"].keys(),
        "tolerations": [one["key"] for one in spec["tolerations"]],
        "priority": spec["priorityClassName"],
        "grace": spec["terminationGracePeriodSeconds"],
        "account": spec["serviceAccountName"],
        "user": {key: spec["securityContext"].get(key) for key in ("runAsUser", "runAsGroup")},
        "group": spec["securityContext"]["fsGroup"],
        "image": (container["image"], container["imagePullPolicy"]),
        "environment": [one["name"] for one in container["env"]][-2:],
        "from": container["envFrom"],
        "gpus": promised_gpus(environment({"env": container["env"][:4]})),
        "resources": (container["resources"]["requests"], container["resources"]["limits"]),
        "selinux": container["securityContext"]["seLinuxOptions"],
        "kept": container["securityContext"]["readOnlyRootFilesystem"],
        "mount": container["volumeMounts"][-1],
        "volume": next(one for one in spec["volumes"] if one["name"] == "ca"),
        "shm": next(one["emptyDir"] for one in spec["volumes"] if one["name"] == "shm"),
    }

    assert seen == {
        "labels": {
            "app.kubernetes.io/name": "validator",
            "app.kubernetes.io/instance": "prod",
            "app.kubernetes.io/component": "daemon",
            "team": "ml",
            "cost-centre": "42",
        },
        "annotation": "false",
        "update": {"type": "OnDelete"},
        "nodes": {"pool": "h100"},
        "affinity": {"requiredDuringSchedulingIgnoredDuringExecution"},
        "tolerations": ["sku", *(f"readiness.k8s.io/inference-{one}" for one in _TAINTS)],
        "priority": "ml-critical",
        "grace": 60,
        "account": "mine",
        "user": {"runAsUser": 1000, "runAsGroup": None},
        "group": 2000,
        "image": (f"registry.example/train@sha256:{'0' * 64}", "Always"),
        "environment": ["HTTPS_PROXY", "SECRET"],
        "from": [{"configMapRef": {"name": "more", "optional": True}}],
        "gpus": "8",
        "resources": (
            {"cpu": 1, "memory": "512Mi"},
            {"memory": "32Gi", "ephemeral-storage": "1Gi"},
        ),
        "selinux": {"type": "container_t"},
        "kept": True,
        "mount": {"name": "ca", "mountPath": "/etc/ssl/certs", "readOnly": True},
        "volume": {"name": "ca", "configMap": {"name": "ca"}},
        "shm": {"medium": "Memory", "sizeLimit": "8Gi"},
    }


_TAINTS: Final = ("not-ready", "failed")


def test_what_the_user_says_reaches_the_other_objects(user: list[Object]) -> None:
    """Names, labels, monitoring, network, conditions and taints."""
    account, monitor = find(user, "ServiceAccount"), find(user, "ServiceMonitor")
    policy = find(user, "NetworkPolicy")["spec"]
    startup, failed = (find(user, "NodeReadinessRule", f"-{one}")["spec"] for one in _RULES)
    reporter = container_of(find(user, "DaemonSet")["spec"]["template"], "readiness-reporter")
    service = find(user, "Service")

    assert {one["metadata"]["labels"]["team"] for one in user} == {"ml"}
    assert find(user, "DaemonSet")["metadata"]["name"] == "prod-validator"
    assert account["metadata"]["name"] == "mine"
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": "arn"}
    assert find(user, "ClusterRoleBinding")["subjects"][0]["name"] == "mine"
    assert monitor["spec"]["endpoints"][0]["interval"] == "15s"
    assert monitor["spec"]["attachMetadata"] == {"node": True}
    assert (
        monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    )
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    for one in (monitor, find(user, "PrometheusRule")):
        assert one["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    assert policy["egress"] == [{"ports": [{"port": 16443}]}]
    assert policy["ingress"][0]["from"][0]["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "observability"
    }
    assert reporter["args"] == ["condition", "--interval", "15s", "--prefix", "Inference"]
    assert startup["conditions"][0]["type"] == "InferenceReady"
    assert failed["conditions"][0]["type"] == "InferenceFailed"
    assert failed["nodeSelector"] == {"matchLabels": {"pool": "h100"}}
    assert startup["nodeSelector"]["matchLabels"] == {
        "gpu-validator/startup-gate": "true",
        "pool": "h100",
    }


_RULES: Final = ("startup", "failed")


@pytest.mark.parametrize("kind", ["podMonitor", "serviceMonitor"])
def test_the_labels_of_nodes_are_asked_for_by_whoever_may_list_them(kind: str) -> None:
    """Off by default: a Prometheus without that right would find no pod at all."""
    name = f"{kind[0].upper()}{kind[1:]}"
    off = find(helm(f"{kind}.enabled=true"), name)
    on = find(helm(f"{kind}.enabled=true", f"{kind}.attachMetadata.node=true"), name)

    assert "attachMetadata" not in off["spec"]
    assert on["spec"].pop("attachMetadata") == {"node": True}
    assert on == off


def test_an_account_of_the_users_own_is_not_made() -> None:
    """Named, and left to whoever made it; without a name it is the namespace's."""
    made = helm("serviceAccount.create=false", "serviceAccount.name=theirs")
    unnamed = helm("serviceAccount.create=false")

    assert [one for one in made if one["kind"] == "ServiceAccount"] == []
    assert pods_of(made)["gpu-validator"]["spec"]["serviceAccountName"] == "theirs"
    assert pods_of(unnamed)["gpu-validator"]["spec"]["serviceAccountName"] == "default"


def test_a_uid_of_the_users_own_beats_the_modes() -> None:
    """Host folders need uid 0 unless somebody has made them another's."""
    by_mode = ours(pods_of(helm("statusFile.enabled=true"))["gpu-validator"])["securityContext"]
    own = ours(
        pods_of(helm("statusFile.enabled=true", "securityContext.runAsUser=1000"))["gpu-validator"]
    )["securityContext"]

    assert (by_mode["runAsUser"], by_mode["runAsNonRoot"]) == (0, False)
    assert own["runAsUser"] == 1000
    assert "runAsNonRoot" not in own  # the pod's stays


# -- pools ------------------------------------------------------------------------------------

POOLS: Final = (
    "pools.h100.expectGpus=8",
    "pools.h100.nodeSelector.pool=h100",
    "pools.l4.expectGpus=1",
    "pools.l4.nodeSelector.pool=l4",
    "pools.l4.runtimeClassName=",
    "pools.l4.tolerations[0].key=l4",
)


def test_each_pool_has_its_own_number() -> None:
    """A DaemonSet each, on its own nodes, with what differs and nothing of the other's."""
    objects = helm(*POOLS, *ALL)
    pods = pods_of(objects)
    expected = {name: promised_gpus(environment(ours(pod))) for name, pod in pods.items()}

    assert expected == {"gpu-validator-h100": "8", "gpu-validator-l4": "1"}
    for name, pod in pods.items():
        pool = name.rpartition("-")[2]
        assert pod["spec"]["nodeSelector"] == {"nvidia.com/gpu.present": "true", "pool": pool}
        assert pod["metadata"]["labels"]["gpu-validator/pool"] == pool
    assert pods["gpu-validator-h100"]["spec"]["runtimeClassName"] == "nvidia"
    assert "runtimeClassName" not in pods["gpu-validator-l4"]["spec"]
    tolerated = {name: pod["spec"]["tolerations"][0]["key"] for name, pod in pods.items()}
    assert tolerated == {"gpu-validator-h100": "nvidia.com/gpu", "gpu-validator-l4": "l4"}
    for version in VERSIONS:
        assert [text for one in objects if (text := invalid(one, version))] == []


def test_the_pools_share_the_rest() -> None:
    """One Service, budget, policy and monitor finds the pods of all, one rule their nodes."""
    objects = helm(*POOLS, *ALL)
    labels = [pod["metadata"]["labels"].items() for pod in pods_of(objects).values()]
    selectors = [
        find(objects, "Service")["spec"]["selector"],
        find(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        find(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        find(objects, "PodMonitor")["spec"]["selector"]["matchLabels"],
    ]

    assert all(selector.items() <= one for selector in selectors for one in labels)
    assert find(objects, "NodeReadinessRule", "-failed")["spec"]["nodeSelector"] == {
        "matchLabels": {"nvidia.com/gpu.present": "true"}
    }


# -- two releases -----------------------------------------------------------------------------

PAIRS: Final = {
    "one namespace": (("a", "checks"), ("b", "checks")),
    "one name": (("gpu-validator", "a"), ("gpu-validator", "b")),
    "the first of all and another": (("gpu-validator", "gpu-validator"), ("gpu-validator", "b")),
    "a name within a name": (("b-gpu-validator", "a"), ("gpu-validator", "a-b")),
}


def identity(one: Object) -> tuple[str, str | None, str]:
    """What no two objects of a cluster may share."""
    meta = one["metadata"]
    return one["kind"], meta.get("namespace"), meta["name"]


def host_files(pod: Object) -> set[str]:
    """The files that our container writes on its node."""
    folders = {
        one["name"]: one["hostPath"]["path"] for one in pod["spec"]["volumes"] if "hostPath" in one
    }
    places = {one["mountPath"]: folders.get(one["name"]) for one in ours(pod)["volumeMounts"]}
    known = environment(ours(pod))
    paths = (Path(path) for name, path in known.items() if "FILES__" in name)
    on_host = {path: places[str(path.parent)] for path in paths}
    return {f"{folder}/{path.name}" for path, folder in on_host.items() if folder is not None}


@pytest.mark.parametrize("pair", PAIRS)
def test_two_releases_do_not_collide(pair: str) -> None:
    """No object of one name, no selector that finds the other's pods, no file of the host."""
    first, second = (helm(*ALL, *POOLS, release=name, namespace=ns) for name, ns in PAIRS[pair])
    identities = [identity(one) for one in (*first, *second)]

    assert len(identities) == len(set(identities))
    for mine, other in itertools.permutations((first, second)):
        for one in mine:
            if one["kind"] == "DaemonSet":
                selector = one["spec"]["selector"]["matchLabels"].items()
                same = one["metadata"]["namespace"] == mine_namespace(other)
                assert not same or not any(
                    selector <= pod["metadata"]["labels"].items() for pod in pods_of(other).values()
                )
    for one, another in itertools.product(pods_of(first).values(), pods_of(second).values()):
        assert host_files(one)
        assert not host_files(one) & host_files(another)
        assert not any("hostPort" in port for port in ours(one)["ports"])


def mine_namespace(objects: list[Object]) -> str:
    """Where a release's DaemonSets are."""
    return str(next(one for one in objects if one["kind"] == "DaemonSet")["metadata"]["namespace"])


def test_the_pods_of_two_pools_are_each_ones_own() -> None:
    """No DaemonSet finds the pods of the other, or both would delete them."""
    objects = helm(*POOLS)
    sets = [one for one in objects if one["kind"] == "DaemonSet"]
    found = [
        [
            one["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
            for pod in pods_of(objects).values()
        ]
        for one in sets
    ]

    assert found == [[True, False], [False, True]]


NAMES: Final = {
    "a.b": "a-b-gpu-validator",
    "gpu-validator": "gpu-validator",
    "x" * 53: f"{'x' * 24}-{hashlib.sha256(b'x' * 53).hexdigest()[:6]}-gpu-validator",
    f"gpu-validator-{'y' * 39}": "gpu-validator-yyyyyyyyyy-",
}


@pytest.mark.parametrize("release", NAMES)
def test_any_release_has_names_that_kubernetes_takes(release: str) -> None:
    """DNS labels, and the end by which the alerts know the job, for all that helm calls a name."""
    objects = helm(*ALL, *POOLS, release=release)
    name = find(objects, "Service")["metadata"]["name"]

    assert name.startswith(NAMES[release])
    assert name.endswith("gpu-validator")
    for one in objects:
        if "NodeReadinessRule" not in one["kind"] and "ClusterRole" not in one["kind"]:
            assert re.fullmatch("[a-z]([-a-z0-9]{0,61}[a-z0-9])?", one["metadata"]["name"])


def test_long_names_stay_apart() -> None:
    """Two releases that begin alike; one that begins with a digit has no Service's name."""
    names = {find(helm(release=f"{'x' * 52}{end}"), "Service")["metadata"]["name"] for end in "ab"}

    assert len(names) == 2
    with pytest.raises(ValueError, match="fullnameOverride"):
        helm(release="1a")
    assert find(helm("fullnameOverride=one", release="1a"), "Service")["metadata"]["name"] == "one"


def test_a_name_that_yaml_takes_for_something_else_stays_a_name(tmp_path: Path) -> None:
    """A release called on, a namespace called 123, a prefix Yes: text in every place."""
    file = tmp_path / "values.yaml"
    file.write_text(
        "fullnameOverride: 'no'\n"
        "nameOverride: 'off'\n"
        "runtimeClassName: 'true'\n"
        "priorityClassName: '12'\n"
        "serviceAccount: {name: 'null'}\n"
        "image: {pullSecrets: ['1e3'], tag: '1.10'}\n"
        "networkPolicy: {fromNamespaces: ['7']}\n"
        "statusFile: {hostPath: '/run/a #b'}\n"
        "nodeReadiness: {conditionPrefix: 'Yes'}\n"
    )
    objects = helm(*ALL, release="on", namespace="123", files=(file,))
    made = find(objects, "DaemonSet")
    pod = made["spec"]["template"]
    folders = [one["hostPath"]["path"] for one in pod["spec"]["volumes"] if "hostPath" in one]

    for version in VERSIONS:
        assert [text for one in objects if (text := invalid(one, version))] == []
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == ("no", "123")
    assert pod["metadata"]["labels"]["app.kubernetes.io/instance"] == "on"
    assert container_of(pod, "readiness-reporter")["args"][-1] == "Yes"
    assert "/run/a #b" in folders
    assert all(isinstance(one["metadata"]["name"], str) for one in objects)


def keys_twice(node: yaml.Node) -> Iterator[str]:
    """The keys that a map of a document has more than once."""
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        yield from (key for key in keys if keys.count(key) > 1)
    parts = node.value if isinstance(node.value, list) else []
    for part in parts:
        for each in part if isinstance(part, tuple) else (part,):
            yield from keys_twice(each)


def test_a_label_that_is_told_twice_is_written_once(tmp_path: Path) -> None:
    """What stands nearest wins; kustomize as a post-renderer refuses a key that is twice."""
    file = tmp_path / "values.yaml"
    file.write_text(
        "labels: {team: all, release: all}\n"
        "podLabels: {team: pods}\n"
        "podAnnotations: {checksum/config: mine, a: b}\n"
        "podMonitor: {enabled: true, labels: {release: kps}}\n"
        "prometheusRule: {enabled: true, labels: {release: kps}}\n"
    )
    command = [tool("helm"), "template", "a", str(CHART), "--values", str(file)]
    text = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    roots = [node for node in yaml.compose_all(text) if node is not None]
    objects = [one for one in yaml.safe_load_all(text) if one]
    pod = find(objects, "DaemonSet")["spec"]["template"]["metadata"]

    assert [key for node in roots for key in keys_twice(node)] == []
    assert (pod["labels"]["team"], pod["labels"]["release"]) == ("pods", "all")
    assert pod["annotations"]["a"] == "b"
    assert pod["annotations"]["checksum/config"] != "mine"  # a new setting restarts the pods
    for kind in ("PodMonitor", "PrometheusRule"):
        assert find(objects, kind)["metadata"]["labels"]["release"] == "kps"


def test_the_names_are_known_to_the_alerts() -> None:
    """The jobs of the monitors, whatever the release is called: `Down` asks for them by name."""
    rules = operator_object()["spec"]["groups"]
    text = next(rule["expr"] for group in rules for rule in group["rules"] if "up{" in rule["expr"])
    pattern = re.findall(r'job=~"([^"]*)"', text)[0]
    names = [
        find(helm(*ALL, release=name), "PodMonitor")["metadata"]["name"] for name in ("a", "b")
    ]

    assert names == ["a-gpu-validator", "b-gpu-validator"]
    assert all(re.fullmatch(pattern, f"anywhere/{name}") for name in names)


# -- platforms --------------------------------------------------------------------------------

#: Of each: the runtime class, whether it is privileged, how it finds its nodes, what it gives up.
EXPECTED: Final[dict[str, tuple[str | None, bool, str, set[str]]]] = {
    "aks": (None, False, "kubernetes.azure.com/accelerator", set()),
    "aks-gpu-operator": ("nvidia", False, "nvidia.com/gpu.present", set()),
    "eks": (None, False, "karpenter.k8s.aws/instance-gpu-manufacturer", set()),
    "eks-bottlerocket": (
        None,
        True,
        "eks.amazonaws.com/instance-gpu-manufacturer",
        {"root", "privileged"},
    ),
    "gke": (
        None,
        True,
        "cloud.google.com/gke-accelerator",
        {"root", "privileged", "host-folder"},
    ),
    "gke-gpu-operator": ("nvidia", False, "nvidia.com/gpu.present", set()),
    "openshift": ("nvidia", False, "nvidia.com/gpu.present", set()),
    "rke2": ("nvidia", False, "nvidia.com/gpu.present", set()),
    "rke2-gpu-operator": ("nvidia", True, "nvidia.com/gpu.present", {"root", "privileged"}),
}


def test_every_platform_has_its_test() -> None:
    """And is in the document."""
    text = (ROOT / "docs/kubernetes.md").read_text()

    assert PLATFORMS.keys() == EXPECTED.keys() == DETAILS.keys()
    assert [name for name in PLATFORMS if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", EXPECTED)
def test_a_platforms_values_render(name: str) -> None:
    """Valid, on GPU nodes, with the GPUs in reach, and hardened but for what it gives up."""
    runtime, privileged, key, given_up = EXPECTED[name]
    objects = helm("nodeReadiness.enabled=true", files=(PLATFORMS[name],))
    pod = pods_of(objects)["gpu-validator"]
    spec, container = pod["spec"], ours(pod)
    places = yaml.safe_dump({one: spec.get(one) for one in ("nodeSelector", "affinity")})
    rule = find(objects, "NodeReadinessRule", "-failed")["spec"]["nodeSelector"]

    for version in VERSIONS:
        assert [text for one in objects if (text := invalid(one, version))] == []
    assert spec.get("runtimeClassName") == runtime
    assert container["securityContext"].get("privileged", False) is privileged
    assert environment(container)["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert key in places
    assert ("nvidia.com/gpu.present" in (spec.get("nodeSelector") or {})) == (
        key == "nvidia.com/gpu.present"
    )
    assert {"key": "nvidia.com/gpu", "operator": "Exists"} in spec["tolerations"]
    assert set(breaches(pod)) == given_up
    assert any(rule.values())


_BY_FEATURE: Final = {"matchLabels": {"nvidia.com/gpu.present": "true"}}
_OF_GKE: Final = {"key": "cloud.google.com/gke-accelerator", "operator": "Exists"}
_OF_AKS: Final = {"matchLabels": {"kubernetes.azure.com/accelerator": "nvidia"}}
_EVERYBODYS: Final = ["monitoring", "kube-system"]
_OF_GOOGLE: Final = ["gmp-system", "kube-system"]
_OF_RANCHER: Final = ["cattle-monitoring-system", "kube-system"]

#: Of each: the priority class, whose monitoring may ask, the nodes of the rules, and the labels by
#: any of which the pod finds its nodes.
DETAILS: Final[dict[str, tuple[str | None, list[str], Object, set[str]]]] = {
    "aks": (
        "system-node-critical",
        _EVERYBODYS,
        _OF_AKS,
        {"kubernetes.azure.com/accelerator", "accelerator"},
    ),
    "aks-gpu-operator": ("system-node-critical", _EVERYBODYS, _BY_FEATURE, set()),
    "eks": (
        "system-node-critical",
        _EVERYBODYS,
        _BY_FEATURE,
        {"karpenter.k8s.aws/instance-gpu-manufacturer", "nvidia.com/gpu.present"},
    ),
    "eks-bottlerocket": (
        "system-node-critical",
        _EVERYBODYS,
        _BY_FEATURE,
        {
            "karpenter.k8s.aws/instance-gpu-manufacturer",
            "eks.amazonaws.com/instance-gpu-manufacturer",
            "nvidia.com/gpu.present",
        },
    ),
    "gke": (None, _OF_GOOGLE, {"matchExpressions": [_OF_GKE]}, {_OF_GKE["key"]}),
    "gke-gpu-operator": (None, _OF_GOOGLE, _BY_FEATURE, set()),
    "openshift": (
        "system-node-critical",
        ["openshift-user-workload-monitoring"],
        _BY_FEATURE,
        set(),
    ),
    "rke2": ("system-node-critical", _OF_RANCHER, _BY_FEATURE, set()),
    "rke2-gpu-operator": ("system-node-critical", _OF_RANCHER, _BY_FEATURE, set()),
}


@pytest.mark.parametrize("name", DETAILS)
def test_what_else_differs_on_a_platform(name: str) -> None:
    """Who admits the pod, who scrapes it, and which nodes a taint is for."""
    priority, namespaces, nodes, labels = DETAILS[name]
    objects = helm("nodeReadiness.enabled=true", files=(PLATFORMS[name],))
    spec = pods_of(objects)["gpu-validator"]["spec"]
    policy = find(objects, "NetworkPolicy")["spec"]["ingress"][0]["from"]
    affinity = spec.get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})

    assert spec.get("priorityClassName") == priority
    assert [
        one["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for one in policy
    ] == namespaces
    assert find(objects, "NodeReadinessRule", "-failed")["spec"]["nodeSelector"] == nodes
    assert {
        one["matchExpressions"][0]["key"] for one in terms.get("nodeSelectorTerms", [])
    } == labels
    assert ("sku" in {one["key"] for one in spec["tolerations"]}) is name.startswith("aks")


def test_the_driver_of_gke_is_where_the_linker_looks() -> None:
    """The folder of the host, its mount and LD_LIBRARY_PATH meet."""
    pod = pods_of(helm(files=(PLATFORMS["gke"],)))["gpu-validator"]
    volume = next(one for one in pod["spec"]["volumes"] if one["name"] == "nvidia")
    mount = next(one for one in ours(pod)["volumeMounts"] if one["name"] == "nvidia")

    assert volume["hostPath"]["path"] == "/home/kubernetes/bin/nvidia"
    assert environment(ours(pod))["LD_LIBRARY_PATH"] == f"{mount['mountPath']}/lib64"


def test_openshift_gives_the_uid() -> None:
    """Restricted-v2 refuses a uid outside the namespace's range, and 65532 is."""
    objects = helm("nodeReadiness.enabled=true", files=(PLATFORMS["openshift"],))
    pod = pods_of(objects)["gpu-validator"]

    assert pod["spec"]["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod["metadata"]["annotations"]["openshift.io/required-scc"] == "restricted-v2"
    for one in pod["spec"]["containers"]:
        assert not one["securityContext"].keys() & {"runAsUser", "runAsGroup"}
    assert find(objects, "PodMonitor")
    assert find(objects, "PrometheusRule")


# -- rules, lint, notes -----------------------------------------------------------------------


def test_the_charts_rules_are_the_repositorys() -> None:
    """`python -m tests.deploy.rules` writes both; templates in the rules stay as they are."""
    made = find(helm("prometheusRule.enabled=true"), "PrometheusRule")

    assert IN_THE_CHART.read_bytes() == OBJECT.read_bytes()
    assert made["spec"] == operator_object()["spec"]


def lint(*flags: str) -> str:
    """What `helm lint --strict` complains of."""
    done = subprocess.run(
        [tool("helm"), "lint", "--strict", "--quiet", str(CHART), *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr if done.returncode else ""


def test_lint_has_no_complaint(tmp_path: Path) -> None:
    """Of the defaults, the user's values and each platform's; of a wrong one it has."""
    file = tmp_path / "values.yaml"
    file.write_text(USER)
    complaints = [lint(), lint("--values", str(file))]
    complaints += [lint("--values", str(path)) for path in PLATFORMS.values()]

    assert [text for text in complaints if text] == []
    assert "expectGpus" in lint("--set", "expectGpus=0")


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((), ("expects 1 GPU(s)", "daemonset/a-gpu-validator", "Nothing scrapes it yet")),
        (POOLS, ("h100: 8 GPUs", "l4: 1 GPUs", "daemonset/a-gpu-validator-h100")),
        (ALL, ("enforce=privileged", "GPUEnvironmentReady", "startup-gate=true")),
        (("nameOverride=checks",), ("GpuValidatorAbsent do not see a-checks",)),
    ],
)
def test_the_notes_say_what_is_next(
    values: tuple[str, ...], texts: tuple[str, ...], tmp_path: Path
) -> None:
    """After an install, for what was installed."""
    flags = [part for value in values for part in ("--set", value)]
    done = subprocess.run(
        [tool("helm"), "install", "a", str(CHART), "--dry-run=client", *flags],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": os.devnull},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    notes = done.stdout.partition("NOTES:")[2]

    assert [text for text in texts if text not in notes] == []
    assert ("Nothing scrapes" in notes) == (values != ALL)
    assert ("do not see" in notes) == (values == ("nameOverride=checks",))


def test_every_value_is_explained() -> None:
    """A comment on its line, or above."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    named = [(place, line) for place, line in enumerate(lines) if re.match(r"\w+:", line)]
    bare = [
        line for place, line in named if " #" not in line and not lines[place - 1].startswith("#")
    ]

    assert len(named) > 25
    assert bare == []


def test_the_schema_knows_every_value_and_no_other() -> None:
    """A value that is not there is refused, so one that is must be."""
    schema: dict[str, Any] = yaml.safe_load((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    assert schema["properties"].keys() - {"global"} == values.keys()
