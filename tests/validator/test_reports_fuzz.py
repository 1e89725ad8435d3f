"""Whatever somebody sends as a report: it is read, or refused with one kind of error."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.validator import reports
from tests.validator.hostile import VALUES
from validator.cli.document import Output, document
from validator.engine.plan import make_plan
from validator.reader import read_report
from validator.render.console import plain_console
from validator.report import Report, exit_code
from validator.service import fresh
from validator.service.ask import NoAnswerError
from validator.settings.model import Settings

#: The same examples each time, in bounded number.
BOUNDED = settings(
    derandomize=True,
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
FORMS: tuple[Output, ...] = ("text", "json", "junit", "prom")
ASKER = replace(fresh.this_asker(), booted_at=None, torch=None, environment={})
SEEDS = [json.loads(each.model_dump_json()) for each in (reports.sick(), reports.node())]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value of a document."""
    found = [path] if path else []
    children: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        children = [*value.items()]
    elif isinstance(value, list):
        children = [*enumerate(value)]
    for key, child in children:
        found += places(child, (*path, key))
    return found


PLACES = [places(seed) for seed in SEEDS]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A report with some of its values replaced, left out or doubled."""
    which = draw(st.integers(0, len(SEEDS) - 1))
    content = json.loads(json.dumps(SEEDS[which]))
    for _ in range(draw(st.integers(1, 4))):
        *folder, last = draw(st.sampled_from(PLACES[which]))
        holder: Any = content
        try:
            for key in folder:
                holder = holder[key]
            how = draw(st.sampled_from(("replace", "remove", "double", "word")))
            if how == "remove":
                del holder[last]
            elif how == "double" and isinstance(holder, list):
                holder.insert(last, holder[last])
            elif how == "word":
                holder[last] = draw(
                    st.sampled_from(("pass", "fail", "", "1e999", "2999-01-01T00:00:00Z", "\ud800"))
                )
            else:
                holder[last] = draw(VALUES)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
    return json.dumps(content)


@BOUNDED
@given(mutated())
def test_a_changed_report_is_read_or_refused(text: str) -> None:
    """What is read can be shown in each form, and answers a check or says why not."""
    try:
        report = read_report(text)
    except ValueError:
        return
    assert isinstance(report, Report)
    plan = make_plan(Settings(), "cli")
    try:
        answer = fresh.select(report, plan, Settings(), max_age_s=1e9, asker=ASKER)
    except NoAnswerError:
        return
    for form in FORMS:
        document(answer, form, plain_console()).encode()
    ET.fromstring(document(answer, "junit", plain_console()))  # noqa: S314 - our own
    assert exit_code(answer) in {0, 1, 2}
    assert {result.fault for result in answer.results} == {None}


def test_some_of_them_are_answers() -> None:
    """What is not changed is one: the test above looks at what it says that it does."""
    report = read_report(json.dumps(SEEDS[1]))
    plan = make_plan(Settings(), "cli")

    assert fresh.select(report, plan, Settings(), max_age_s=1e9, asker=ASKER).results


@BOUNDED
@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace"))
)
def test_any_bytes_are_refused(content: bytes) -> None:
    """No JSON, or no report: one kind of error."""
    try:
        read_report(content)
    except (ValueError, RecursionError):
        return
    raise AssertionError(content)
