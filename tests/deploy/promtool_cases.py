"""The scenarios as files of `promtool test rules`.

`python -m tests.deploy.promtool_cases` writes them to deploy/prometheus/tests.
"""

from typing import Any

import yaml

from tests.deploy.case import Firing
from tests.deploy.fleet import record, series
from tests.deploy.rules import PROMETHEUS, alerts, asked
from tests.deploy.scenarios import CASES_BY_NAME

CASES = PROMETHEUS / "tests"


def promtool_case(name: str) -> dict[str, Any]:
    """One case as promtool reads it."""
    case, rules = CASES_BY_NAME[name], alerts()
    last = max(case.firing)
    firing = [
        {
            "expr": 'ALERTS{alertstate="firing"}',
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": _firing(one), "value": 1} for one in expected],
        }
        for minute, expected in case.firing.items()
    ]
    values = [
        {
            "expr": expression,
            "eval_time": f"{last}m",
            "exp_samples": [
                {"labels": f"{expression if ' ' not in expression else expression.split()[0]}{key}"}
                | {"value": value}
                for key, value in expected.items()
            ],
        }
        for expression, expected in case.values.items()
    ]
    texts = [
        {
            "alertname": alert,
            "eval_time": f"{minute}m",
            "exp_alerts": [
                {
                    "exp_labels": one.expected_labels(),
                    "exp_annotations": _texts(one, rules[alert]["annotations"]),
                }
                for one in expected
                if one.alert == alert
            ],
        }
        for minute, expected in case.firing.items()
        for alert in dict.fromkeys(one.alert for one in expected if one.summary)
    ]
    return {
        "rule_files": ["../rules/*.yml"],
        "evaluation_interval": f"{case.step}m",
        # Without it promtool takes the groups in any order.
        "group_eval_order": ["gpu-env-validator.recording", "gpu-env-validator.alerts"],
        "tests": [
            {
                "name": name,
                "interval": f"{case.step}m",
                "input_series": record(case.script(), last + case.step, case.step, sorted(asked())),
                "promql_expr_test": firing + values,
                "alert_rule_test": texts,
            }
        ],
    }


def _firing(one: Firing) -> str:
    """The series that says so."""
    own = {"alertname": one.alert, "alertstate": "firing"}
    return series("ALERTS", own | one.expected_labels())


def _texts(one: Firing, rule: dict[str, str]) -> dict[str, str]:
    """The annotations: those given, and of the rule those without a template."""
    given = {"summary": one.summary, "description": one.description}
    texts = rule | {key: value for key, value in given.items() if value is not None}
    if any("{{" in value for value in texts.values()):
        raise ValueError(f"{one.alert}: what its templates give is not told: {texts}")
    return texts


def text(name: str) -> str:
    """The file of a case."""
    head = "# Written by `python -m tests.deploy.promtool_cases` from the product: no edits.\n"
    return head + yaml.safe_dump(promtool_case(name), sort_keys=False, width=1000)


def write() -> None:
    """Write all cases, and remove what is none."""
    CASES.mkdir(exist_ok=True)
    for path in CASES.glob("*.yml"):
        path.unlink()
    for name in CASES_BY_NAME:
        (CASES / f"{name}.yml").write_text(text(name), encoding="utf-8")


if __name__ == "__main__":
    write()
