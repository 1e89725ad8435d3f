"""What the tests of manifests share: rendering by the real tools, validation, a policy."""

import copy
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import kubernetes_validate
import pytest
import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
KUBERNETES: Final = ROOT / "deploy/kubernetes"
CHART: Final = ROOT / "deploy/helm/gpu-env-validator"

#: The oldest and the newest release that the manifests must be valid for.
VERSIONS: Final = ("1.29", "1.37")

Object = dict[str, Any]

SHM: Final = "/dev/shm"  # noqa: S108 - where torch puts what processes share

#: What can be switched on, by the components of kustomize and by the values of the chart.
MODES: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "default": ((), ()),
    "pod-monitor": (("pod-monitor",), ("podMonitor.enabled=true",)),
    "node-readiness": (("node-readiness",), ("nodeReadiness.enabled=true",)),
    "feature-file": (("feature-file",), ("featureFile.enabled=true",)),
    "status-file": (("status-file",), ("statusFile.enabled=true",)),
    "cdi": (("cdi",), ("gpuAccess=cdi",)),
    "privileged": (("privileged",), ("gpuAccess=privileged",)),
    "everything": (
        ("pod-monitor", "node-readiness", "feature-file", "status-file"),
        (
            "podMonitor.enabled=true",
            "nodeReadiness.enabled=true",
            "featureFile.enabled=true",
            "statusFile.enabled=true",
        ),
    ),
}

#: The values of each platform.
PLATFORMS: Final = {path.stem: path for path in sorted((CHART / "platforms").glob("*.yaml"))}

_STRING: Final = {"type": "string", "minLength": 1}
_META: Final = {"type": "object", "required": ["name", "labels"]}


def _custom(api: str, kind: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": api},
            "kind": {"const": kind},
            "metadata": _META,
            "spec": {"type": "object", "additionalProperties": False, **spec},
        },
    }


def _closed(required: tuple[str, ...], **properties: Any) -> Mapping[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


def _monitor(kind: str, endpoints: str) -> Mapping[str, Any]:
    return _custom(
        "monitoring.coreos.com/v1",
        kind,
        {
            "required": ["selector", endpoints],
            "properties": {
                "selector": _closed(("matchLabels",), matchLabels={"type": "object"}),
                "attachMetadata": _closed(("node",), node={"type": "boolean"}),
                endpoints: {
                    "type": "array",
                    "minItems": 1,
                    "items": _closed(
                        ("port",),
                        port=_STRING,
                        path=_STRING,
                        interval={"type": "string", "pattern": r"^\d+(ms|s|m|h)$"},
                        scrapeTimeout={"type": "string", "pattern": r"^\d+(ms|s|m|h)$"},
                        relabelings={
                            "type": "array",
                            "items": _closed(
                                ("sourceLabels", "targetLabel"),
                                sourceLabels={"type": "array", "items": _STRING},
                                targetLabel=_STRING,
                                regex=_STRING,
                            ),
                        },
                    ),
                },
            },
        },
    )


#: Kubernetes' schemas hold its own kinds alone. Of these, the fields that we use, by the
#: definitions of prometheus-operator and node-readiness-controller.
CUSTOM: Final = {
    "PodMonitor": _monitor("PodMonitor", "podMetricsEndpoints"),
    "ServiceMonitor": _monitor("ServiceMonitor", "endpoints"),
    "PrometheusRule": _custom(
        "monitoring.coreos.com/v1",
        "PrometheusRule",
        {
            "required": ["groups"],
            "properties": {
                "groups": {
                    "type": "array",
                    "minItems": 1,
                    "items": _closed(("name", "rules"), name=_STRING, rules={"type": "array"}),
                }
            },
        },
    ),
    "NodeReadinessRule": _custom(
        "readiness.node.x-k8s.io/v1alpha1",
        "NodeReadinessRule",
        {
            "required": ["conditions", "nodeSelector", "taint", "enforcementMode"],
            "properties": {
                "conditions": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 32,
                    "items": _closed(
                        ("type", "requiredStatus"),
                        type={**_STRING, "maxLength": 316},
                        requiredStatus={"enum": ["True", "False", "Unknown"]},
                        defaultStatus={"enum": ["True", "False", "Unknown"]},
                    ),
                },
                "enforcementMode": {"enum": ["bootstrap-only", "continuous"]},
                "nodeSelector": {"type": "object", "minProperties": 1},  # refused when empty
                "taint": _closed(
                    ("key", "effect"),
                    key={"type": "string", "pattern": r"^readiness\.k8s\.io/"},
                    value=_STRING,
                    effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
                ),
            },
        },
    ),
}


def tool(name: str) -> str:
    """The path of kubectl or helm; skips the test by name where there is none."""
    found = shutil.which(name, path=f"{ROOT / 'build/kubernetes'}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"no {name} here: tools/kubernetes.sh fetches it")
    return found


def _objects(text: str) -> list[Object]:
    return [one for one in yaml.safe_load_all(text) if one is not None]


def kustomize(
    folder: Path, *components: Path, resources: tuple[Path | str, ...] = (KUBERNETES / "base",)
) -> list[Object]:
    """Resources with some components, rendered in a folder by the real kustomize."""

    def near(one: Path | str) -> str:
        return one if isinstance(one, str) else os.path.relpath(one, folder.resolve())

    content = {
        "resources": [near(one) for one in resources],
        "components": [near(one) for one in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return rendered(folder)


def rendered(folder: Path) -> list[Object]:
    """What a folder with a kustomization renders to."""
    return _objects(_run("kubectl", "kustomize", str(folder)))


def _run(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [tool(name), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout


def mode(name: str) -> list[Object]:
    """What kustomize makes of a mode."""
    return copy.deepcopy(_mode(name))


@functools.cache
def _mode(name: str) -> list[Object]:
    with tempfile.TemporaryDirectory() as folder:
        return kustomize(Path(folder), *(KUBERNETES / "components" / one for one in MODES[name][0]))


def helm(
    *values: str,
    namespace: str = "gpu-validator",
    release: str = "gpu-validator",
    files: tuple[Path, ...] = (),
) -> list[Object]:
    """The chart with some values and files of values, rendered by the real helm.

    Raises:
        ValueError: with helm's complaint.
    """
    return copy.deepcopy(_helm(values, namespace, release, files))


@functools.cache
def _helm(
    values: tuple[str, ...], namespace: str, release: str, files: tuple[Path, ...]
) -> list[Object]:
    flags = [part for file in files for part in ("--values", str(file))]
    flags += [part for value in values for part in ("--set", value)]
    return _objects(_run("helm", "template", release, str(CHART), "--namespace", namespace, *flags))


def invalid(one: Object, version: str) -> str:
    """What is wrong with an object by its schema; unknown fields are wrong."""
    if one["kind"] in CUSTOM:
        try:
            jsonschema_rs.validate(dict(CUSTOM[one["kind"]]), one)
        except jsonschema_rs.ValidationError as error:
            return f"{one['kind']}: {error.message}"
        return ""
    try:
        kubernetes_validate.validate(one, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{one['kind']}: {error.message}"
    return ""


def find(objects: list[Object], kind: str, ending: str = "") -> Object:
    """The one object of a kind, or of those whose name ends so."""
    mine = (one for one in objects if one["kind"] == kind)
    found = [one for one in mine if one["metadata"]["name"].endswith(ending)]
    assert len(found) == 1, f"{len(found)} of kind {kind}"
    return found[0]


def container_of(pod: Object, name: str) -> Object:
    """A container of a pod template by its name; kustomize puts added ones anywhere."""
    containers = pod["spec"].get("initContainers", []) + pod["spec"].get("containers", [])
    return next(one for one in containers if one["name"] == name)


def ours(pod: Object) -> Object:
    """The container that runs our image."""
    return container_of(pod, "gpu-validator")


def environment(container: Object) -> dict[str, str]:
    """The variables of a container; what the cluster would fill in stands as its field's path."""
    return {
        one["name"]: one.get("value") or one["valueFrom"]["fieldRef"]["fieldPath"]
        for one in container.get("env", [])
    }


def breaches(pod: Object) -> Iterator[str]:
    """The rules of a hardened pod that a pod template breaks."""
    spec = pod["spec"]
    volumes = spec.get("volumes", [])
    rules = {
        "host-namespace": not any(spec.get(f"host{one}") for one in ("PID", "IPC", "Network")),
        "token": spec.get("automountServiceAccountToken") is False,
        "service-links": spec.get("enableServiceLinks") is False,
        "host-folder": not any("hostPath" in volume for volume in volumes),
    }
    yield from (rule for rule, kept in rules.items() if not kept)
    tokens = {volume["name"] for volume in volumes if "projected" in volume}
    shared = {
        volume["name"]
        for volume in volumes
        if volume.get("emptyDir", {}).get("medium") == "Memory" and volume["emptyDir"]["sizeLimit"]
    }
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        yield from _breaches(container, spec.get("securityContext", {}))
        mounts = container.get("volumeMounts", [])
        if container["name"] == "gpu-validator":
            if any(mount["name"] in tokens for mount in mounts):
                yield "token"
            if not any(mount["mountPath"] == "/tmp" for mount in mounts):  # noqa: S108 - theirs
                yield "no-tmp"
            if not any(mount["name"] in shared and mount["mountPath"] == SHM for mount in mounts):
                yield "no-shm"


def _breaches(container: Object, of_pod: Object) -> Iterator[str]:
    mine = container.get("securityContext", {})
    both = {**of_pod, **mine}
    capabilities, resources = mine.get("capabilities", {}), container.get("resources", {})
    privileged = mine.get("privileged", False)
    rules = {
        "root": both.get("runAsNonRoot") is True and both.get("runAsUser") != 0,
        "seccomp": both.get("seccompProfile", {}).get("type") == "RuntimeDefault",
        "privileged": not privileged,
        "escalation": privileged or mine.get("allowPrivilegeEscalation") is False,
        "writable-root": mine.get("readOnlyRootFilesystem") is True,
        "capabilities": capabilities.get("drop") == ["ALL"] and not capabilities.get("add"),
        "no-requests": resources.get("requests", {}).keys() >= {"cpu", "memory"},
        "no-limit": "memory" in resources.get("limits", {}),
    }
    yield from (rule for rule, kept in rules.items() if not kept)


def promised_gpus(known: dict[str, Any]) -> str:
    """How many GPUs a container's variables promise; the one that is no default beats the other."""
    default = known.get("GPU_VALIDATOR_DEFAULTS__EXPECT__GPUS", "")
    return str(known.get("GPU_VALIDATOR_EXPECT__GPUS", default))


def misfits(pod: Object) -> Iterator[str]:
    """What a daemon's or a one-shot pod on the whole node must have beyond that."""
    spec, container = pod["spec"], ours(pod)
    known, resources = environment(container), container["resources"]
    if any("nvidia.com/gpu" in part for part in resources.values()):
        yield "reserves-gpus"
    if known.get("NODE_NAME") != "spec.nodeName":
        yield "no-node-name"
    if not promised_gpus(known).isdecimal() or promised_gpus(known) == "0":
        yield "promises-no-gpu"
    annotated = pod["metadata"].get("annotations", {})
    device = annotated.get("nvidia.cdi.k8s.io/container.gpu-validator")
    if (known.get("NVIDIA_VISIBLE_DEVICES"), device, spec.get("runtimeClassName")) not in {
        ("all", None, "nvidia"),
        ("void", "nvidia.com/gpu=all", None),
    }:
        yield "sees-no-gpu"
    if {"key": "nvidia.com/gpu", "operator": "Exists"} not in spec.get("tolerations", []):
        yield "not-on-tainted-nodes"
    if spec.get("nodeSelector") != {"nvidia.com/gpu.present": "true"}:
        yield "not-on-gpu-nodes"


def unfit(pod: Object) -> Iterator[str]:
    """What the daemon's pod alone must have: probes in their roles, and its place."""
    container = ours(pod)
    paths = {
        name: container.get(f"{name}Probe", {}).get("httpGet", {}).get("path")
        for name in ("startup", "liveness", "readiness")
    }
    if paths != {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}:
        yield "probe-paths"
    ports = {port["name"] for port in container["ports"]}
    asked = {container[f"{name}Probe"]["httpGet"]["port"] for name, path in paths.items() if path}
    if not asked <= ports:
        yield "probe-ports"
    if pod["spec"].get("priorityClassName") != "system-node-critical":
        yield "may-be-preempted"
