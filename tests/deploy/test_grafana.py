"""Every expression of every dashboard is put to a real Prometheus that scraped us, and answers."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.components import Prometheus, prometheus, served, wait_for
from tests.deploy.rules import RULES, metric_names, recorded, recorded_names
from tests.validator.service.fake_runner import gpus, report, result
from tests.validator.service.test_metrics import SHOWN, TOOL, full
from validator.report import Environment
from validator.service.metrics import Exposition, Form, families

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))

JOB = "gpu-env-validator"
NODES = ("node-1", "node-2")
#: What Grafana puts in for its variables; an interval as wide as its own for a scrape of 1 s.
VARIABLES = {
    "$job": JOB,
    "$instance": NODES[0],
    "$cluster": ".*",
    "$pool": ".*",
    "$__rate_interval": "1m",
    "${datasource}": "",
}


def _dashboard(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _expressions() -> list[tuple[str, str]]:
    """Dashboard and panel, and the expression with its variables filled in."""
    found = []
    for path in DASHBOARDS:
        for panel in _dashboard(path)["panels"]:
            for target in panel["targets"]:
                expression = target["expr"]
                for name, value in VARIABLES.items():
                    expression = expression.replace(name, value)
                found.append((f"{path.stem}: {panel['title']}", expression))
    return found


EXPRESSIONS = _expressions()


def _exposition() -> bytes:
    """A node of 8 GPUs where one fails, one is busy, and copies were measured."""
    latest = full()
    known = Environment(torch="2.13.0", driver="570.1", fingerprint="0123456789ab")
    latest.accept(report([result("torch_version")], gpus(8), environment=known))
    return Exposition(lambda: families(latest, SHOWN, TOOL)).read(Form())


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has scraped two nodes twice, and has evaluated our rules since."""
    folder, content = tmp_path_factory.mktemp("grafana"), _exposition()
    with served(lambda _path, _body: content) as address:
        job = {
            "job_name": JOB,
            "static_configs": [
                {"targets": [address], "labels": {"instance": node}} for node in NODES
            ],
            # One server for both: the address is the same, so the path must differ.
            "relabel_configs": [{"source_labels": ["instance"], "target_label": "__param_node"}],
        }
        configuration = folder / "prometheus.yml"
        configuration.write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": [f"{RULES}/*.yml"],
                    "scrape_configs": [job],
                }
            ),
            encoding="utf-8",
        )
        with prometheus(configuration) as running:

            def rules_ran() -> bool | None:
                counted = running.ask("count_over_time(job:gpu_validator_healthy_gpus:ratio[1m])")
                firing = running.ask('ALERTS{alertstate="firing"}')
                return True if counted and float(counted[0]["value"][1]) > 2 and firing else None

            wait_for("two scrapes and an evaluation of the rules", rules_ran, 40)
            yield running


@pytest.mark.slow
@pytest.mark.parametrize(("panel", "expression"), EXPRESSIONS, ids=[one for one, _ in EXPRESSIONS])
def test_expression_returns_something(scraped: Prometheus, panel: str, expression: str) -> None:
    """It parses, and there is a value to show for it."""
    assert scraped.ask(expression) != []


@pytest.mark.slow
def test_a_wrong_expression_is_found(scraped: Prometheus) -> None:
    """The test above can fail: by one that does not parse, and by one that finds nothing."""
    with pytest.raises(ValueError, match="parse error"):
        scraped.ask("sum by (gpu_validator_node_healthy")

    assert scraped.ask("gpu_validator_node_helthy") == []


@pytest.mark.slow
def test_the_numbers_are_right(scraped: Prometheus) -> None:
    """Of two nodes of 8 GPUs each has one that fails: no healthy node, 7 of 8 healthy GPUs."""

    def value(panel: str) -> float:
        expression = dict(EXPRESSIONS)[panel]
        return float(scraped.ask(expression)[0]["value"][1])

    assert value("fleet: Healthy nodes") == 0
    assert value("fleet: Healthy GPUs") == pytest.approx(14 / 16)
    assert value("fleet: Nodes") == 2
    assert value("fleet: GPUs") == 16
    assert value("fleet: Validators down") == 0
    assert value("node: GPUs") == 8
    # `fail` is 5 in the timeline's mapping.
    timeline = scraped.ask(dict(EXPRESSIONS)["node: Probes"])
    assert {one["metric"]["probe"]: one["value"][1] for one in timeline}["tensor_ops"] == "5"


#: Tables that say what is wrong, and the labels by which they do.
TELLING = {
    "fleet: Failing checks": {"probe", "check", "device"},
    "fleet: Checks that warn": {"probe", "check", "device"},
    "fleet: Failed, and not proven well since": {"probe", "check", "device"},
    "fleet: Failed, or could not tell": {"probe", "status", "reason"},
    "fleet: Boards that fail or warn": {"check"},
    "fleet: Throttled": {"check"},
    "node: Checks that fail or warn, and why": {"probe", "check", "device", "reason"},
    "node: Failed, and not proven well since": {"probe", "check", "device"},
    "node: Throttled": {"check"},
}


@pytest.mark.slow
@pytest.mark.parametrize("panel", TELLING)
def test_a_table_names_what_is_wrong(scraped: Prometheus, panel: str) -> None:
    """Probe, check, device and reason are in the answer, and its columns are shown."""
    answer = scraped.ask(dict(EXPRESSIONS)[panel])
    board, _, title = panel.partition(": ")
    path = next(path for path in DASHBOARDS if path.stem == board)
    shown = next(one for one in _dashboard(path)["panels"] if one["title"] == title)
    columns = [
        set(one["options"]["include"]["names"])
        for one in shown.get("transformations", [])
        if "include" in one["options"]
    ]

    assert all(TELLING[panel] <= one["metric"].keys() for one in answer)
    assert all(TELLING[panel] <= names for names in columns)
    assert columns or shown["type"] != "table"


@pytest.mark.slow
def test_rules_are_healthy(scraped: Prometheus) -> None:
    """Prometheus itself found no error in any rule, annotations included."""
    rules = scraped.rules()

    assert {rule["health"] for rule in rules} == {"ok"}
    assert len(rules) > 15


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboard_is_whole(path: Path) -> None:
    """Ids are unique, panels do not overlap, and everything asks the chosen data source."""
    board = _dashboard(path)
    panels = board["panels"]
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert set(re.findall(r'"uid": "([^"]*)"', json.dumps(board))) == {
        board["uid"],
        "${datasource}",
    }
    assert all(panel["description"] for panel in panels)


def test_only_known_metrics_are_asked_for() -> None:
    """A renamed metric, or a recorded series that no rule makes, is found without Prometheus."""
    text = _exposition().decode()
    for panel, expression in EXPRESSIONS:
        for name in metric_names(expression) - {"up"}:
            assert re.search(rf"^{name}(\{{| )", text, re.MULTILINE), panel
        assert recorded_names(expression) <= recorded().keys(), panel


def test_provisioning_finds_the_dashboards() -> None:
    """Paths of the provisioning files are those that compose mounts, and the data source is its."""
    compose = yaml.safe_load((ROOT / "docker-compose.cpu.yml").read_text(encoding="utf-8"))
    grafana = compose["services"]["grafana"]
    mounts = dict(one.removesuffix(":ro").split(":") for one in grafana["volumes"])
    provisioning = GRAFANA / "provisioning"
    provider = yaml.safe_load((provisioning / "dashboards/gpu-env-validator.yml").read_text())
    source = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])

    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    assert mounts["./deploy/grafana/dashboards"] == provider["providers"][0]["options"]["path"]
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]
    assert (GRAFANA / "dashboards" / home.name).is_file()
    assert str(home.parent) == mounts["./deploy/grafana/dashboards"]


def test_grafana_is_hardened_as_its_neighbours() -> None:
    """Read-only, without capabilities, on the loopback alone."""
    compose = yaml.safe_load((ROOT / "docker-compose.cpu.yml").read_text(encoding="utf-8"))
    grafana, beside = compose["services"]["grafana"], compose["services"]["prometheus"]

    for key in ("read_only", "cap_drop", "security_opt"):
        assert grafana[key] == beside[key]
    assert all(port.startswith("127.0.0.1:") for port in grafana["ports"])
