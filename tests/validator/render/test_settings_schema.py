"""The schema of a settings file takes what is right, and tells what is wrong as loading does."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from probes.catalog import CATALOG
from tests.validator.hostile import keys
from tests.validator.settings.test_settings import WRONG_FILES
from validator.render.settings_schema import settings_schema
from validator.settings.loading import load
from validator.settings.values import SettingsError

ROOT = Path(__file__).parents[3]
SCHEMA = settings_schema()
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)


def of_kubernetes() -> Any:
    """What the manifests mount."""
    return yaml.safe_load((ROOT / "deploy/kubernetes/base/config.yaml").read_text("utf-8"))


def of_the_chart() -> Any:
    """What the chart puts in by default."""
    return yaml.safe_load((ROOT / "deploy/helm/gpu-env-validator/values.yaml").read_text("utf-8"))


def of_release() -> Any:
    """Every key of the first release."""
    return yaml.safe_load((ROOT / "tests/golden/0.1.0/settings.yaml").read_text("utf-8"))


def test_it_is_a_schema_of_the_draft_that_it_names() -> None:
    """Editors choose their rules by it."""
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(SCHEMA)


@pytest.mark.parametrize(
    "document",
    [of_kubernetes(), of_the_chart()["config"], of_release(), {}, {"run": None}],
    ids=["kubernetes", "chart", "every key", "empty", "empty section"],
)
def test_what_is_right_is_taken(document: Any) -> None:
    """The settings under deploy/, and a file with every key."""
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []


#: What no schema can tell: text that only its own reader understands, and what is no document.
BEYOND = {
    "expect: {torch: x y}",
    "web: {listen_address: 'host:99999'}",
    "schedule: {autograd: {interval: 3, cron: '* * * * *'}}",
    "run: {timeout: 5}\nrun: {timeout: 6}",
    "run: {timeout: 5, timeout: 6}",
    "run: [",
    "run: !!python/object:os.system {}",
    "\0",
}


@pytest.mark.parametrize("text", sorted(WRONG_FILES.keys() - BEYOND))
def test_what_is_wrong_is_told(text: str) -> None:
    """All that loading refuses."""
    document = yaml.safe_load(text)
    if isinstance(document, dict):
        document = {str(key): value for key, value in document.items()}

    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize(
    "text",
    [
        *("files: {ready: ready}", "files: {nfd: ''}", "web: {token_file: ~/token}"),
        *("web: {unix_socket: run/socket}", "run: {timeout: '0'}", "ready: {max_age: 0.0s}"),
        *("run: {threads: true}", "expect: {mig_instances: true}", "Run: {timeout: 5}"),
        f"web: {{unix_socket: '@{'x' * 107}'}}",
    ],
)
def test_schema_and_reader_refuse_the_same(text: str, tmp_path: Path) -> None:
    """An editor that is content is followed by no error at the start."""
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError):
        load(file)

    assert list(VALIDATOR.iter_errors(yaml.safe_load(text)))


@pytest.mark.parametrize(
    "text",
    [
        *("files: {ready: /run/ready, nfd: null}", "web: {unix_socket: '', token_file: null}"),
        *("web: {unix_socket: '@name'}", "run: {timeout: '0.5'}", "ready: {max_age: 10ms}"),
        *("run: {threads: 8}", "schedule: {autograd: {interval: 1h0m, jitter: '0'}}"),
    ],
)
def test_schema_and_reader_take_the_same(text: str, tmp_path: Path) -> None:
    """No editor complains of what is right."""
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    load(file)

    assert list(VALIDATOR.iter_errors(yaml.safe_load(text))) == []


def test_each_key_is_described() -> None:
    """What stands in the reference stands in the editor too."""
    definitions = SCHEMA["$defs"]
    nameless = [
        f"{owner}.{name}"
        for owner, definition in definitions.items()
        for name, field in definition["properties"].items()
        if "description" not in field
    ]

    assert nameless == []
    assert set(SCHEMA["properties"]) == {path[0] for path in keys()}


@pytest.mark.parametrize("spec", CATALOG, ids=lambda spec: spec.name)
def test_each_probe_has_its_own_limits(spec: Any) -> None:
    """Known by name, with a description; another's are refused."""
    probes = SCHEMA["properties"]["probes"]["anyOf"][0]["properties"]
    limits = probes[spec.name]["properties"]["limits"]
    known = set() if spec.limits is None else set(spec.limits.model_fields)

    assert set(limits.get("properties", {})) == known
    assert all(field["description"] for field in limits.get("properties", {}).values())
    assert not VALIDATOR.is_valid({"probes": {spec.name: {"limits": {"none_of_this": 1}}}})
    assert VALIDATOR.is_valid({"schedule": {spec.name: {"interval": "10m", "jitter": 0}}})


def test_it_is_json() -> None:
    """Without NaN, and small enough to be fetched by an editor."""
    assert len(json.dumps(SCHEMA, allow_nan=False)) < 100_000
