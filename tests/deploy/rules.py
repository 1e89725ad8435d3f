"""The rule files, read, and the metrics that they ask for.

`python -m tests.deploy.rules` writes them once more as an object of the Prometheus operator.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PROMETHEUS = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
RULES = PROMETHEUS / "rules"
OBJECT = PROMETHEUS / "prometheusrule.yaml"
#: The same once more: a chart reads no file outside itself.
IN_THE_CHART = PROMETHEUS.parent / "helm/gpu-env-validator/files/prometheusrule.yaml"

#: Metrics that an expression can name: ours, and those of the process and of Prometheus' own world.
_NAME = re.compile(
    r"\b((?:gpu_validator|node_textfile|process|kube_daemonset)_[a-z_]*[a-z]|up)\b(?!\()"
)
_RECORDED = re.compile(r"\w+:\w+:\w+")


def alerts() -> dict[str, dict[str, Any]]:
    """The alert rules by name."""
    return {rule["alert"]: rule for rule in _rules("alerts.yml")}


def recorded() -> dict[str, str]:
    """The recording rules: name -> expression."""
    return {rule["record"]: rule["expr"] for rule in _rules("recording.yml")}


def _rules(file: str) -> Iterator[dict[str, Any]]:
    for group in _groups(file):
        yield from group["rules"]


def _groups(file: str) -> list[dict[str, Any]]:
    content = yaml.safe_load((RULES / file).read_text(encoding="utf-8"))
    groups: list[dict[str, Any]] = content["groups"]
    return groups


def operator_object() -> dict[str, Any]:
    """All rules as the Prometheus operator takes them."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "gpu-validator",
            "namespace": "gpu-validator",
            "labels": {"app.kubernetes.io/name": "gpu-env-validator"},
        },
        "spec": {"groups": _groups("recording.yml") + _groups("alerts.yml")},
    }


def metric_names(expression: str) -> set[str]:
    """The metrics that an expression asks for, but for recorded ones."""
    without_strings = re.sub(r'"(\\.|[^"])*"', '""', expression)
    return set(_NAME.findall(_RECORDED.sub("", without_strings)))


def recorded_names(expression: str) -> set[str]:
    """The recorded series that an expression asks for."""
    return set(_RECORDED.findall(expression))


def asked() -> set[str]:
    """The metrics that any rule asks for."""
    everything = [*recorded().values(), *(rule["expr"] for rule in alerts().values())]
    return set().union(*map(metric_names, everything))


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, "|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


if __name__ == "__main__":
    head = "# Written by `python -m tests.deploy.rules` from the files in rules/: no edits.\n"
    content = yaml.dump(operator_object(), Dumper=_Dumper, sort_keys=False, width=1000)
    for file in (OBJECT, IN_THE_CHART):
        file.write_text(head + content, encoding="utf-8")
