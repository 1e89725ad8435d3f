"""The rule files, read, and the metrics that they ask for."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PROMETHEUS = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
RULES = PROMETHEUS / "rules"

#: Metrics that an expression can name: ours, and those of the process and of Prometheus' own world.
_NAME = re.compile(r"\b((?:gpu_validator|node_textfile|process)_[a-z_]*[a-z]|up)\b(?!\()")
_RECORDED = re.compile(r"\w+:\w+:\w+")


def alerts() -> dict[str, dict[str, Any]]:
    """The alert rules by name."""
    return {rule["alert"]: rule for rule in _rules("alerts.yml")}


def recorded() -> dict[str, str]:
    """The recording rules: name -> expression."""
    return {rule["record"]: rule["expr"] for rule in _rules("recording.yml")}


def _rules(file: str) -> Iterator[dict[str, Any]]:
    content = yaml.safe_load((RULES / file).read_text(encoding="utf-8"))
    for group in content["groups"]:
        yield from group["rules"]


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
