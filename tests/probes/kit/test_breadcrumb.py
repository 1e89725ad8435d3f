"""A probe records what it is about to do where another process can read it."""

import importlib
import os
from collections.abc import Iterator
from functools import partial

import pytest

from probes.catalog import BY_NAME
from probes.contract import GPU_BUSY, Comparison
from probes.kit import breadcrumb, families
from probes.kit.trial import Custom, fact
from validator.engine.breadcrumb import (
    Breadcrumb,
    ask_to_tell,
    is_wrong,
    read_breadcrumb,
    shared_page,
)

#: Probes with families of operations, each of which may kill the process.
OF_FAMILIES = (
    "numpy_sharing",
    "device_transfer",
    "tensor_ops",
    "train_eval",
    "autograd",
    "gradcheck",
)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Shared memory in which this process records its check and operation."""
    monkeypatch.setattr(breadcrumb, "_CURRENT", breadcrumb._Breadcrumb())
    descriptor = shared_page()
    assert descriptor is not None
    breadcrumb.use_page(descriptor)
    yield descriptor
    os.close(descriptor)


def test_check_and_operation_are_read_back(page: int) -> None:
    """The latest of each is read, and a new check has no operation yet."""
    breadcrumb.begin()
    table = {"products": 1, "rows": 2}
    records = []
    for _ in breadcrumb.families(table):
        before = read_breadcrumb(page)
        breadcrumb.operation("matmul")
        records.append((before, read_breadcrumb(page)))

    assert records == [
        (Breadcrumb(check), Breadcrumb(check, "matmul")) for check in ("products", "rows")
    ]
    assert read_breadcrumb(page) == Breadcrumb()


def test_an_operation_of_any_length_and_script_fits(page: int) -> None:
    """A long name is cut to the page, and can still be decoded."""
    breadcrumb.check("rows")
    breadcrumb.operation("é" * 1000)

    check, operation = read_breadcrumb(page)

    assert check == "rows"
    assert 100 < len(operation) < breadcrumb.PAGE_BYTES
    assert set(operation.rstrip("\ufffd")) == {"é"}


def test_a_check_that_is_left_out_is_not_yielded(page: int) -> None:
    """The others are, in their order."""
    breadcrumb.begin(frozenset({"rows"}))

    assert list(breadcrumb.families({"products": 1, "rows": 2, "shapes": 3})) == [
        ("products", 1),
        ("shapes", 3),
    ]


def test_without_a_page_nothing_is_recorded_and_nothing_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a process that no supervisor shares memory with."""
    monkeypatch.setattr(breadcrumb, "_CURRENT", breadcrumb._Breadcrumb())
    breadcrumb.operation("matmul")

    assert read_breadcrumb(None) == Breadcrumb()


@pytest.mark.parametrize("name", OF_FAMILIES)
def test_every_check_but_those_left_out_is_judged(
    page: int, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With every third check left out the others pass, and each was recorded by name."""
    spec = BY_NAME[name]
    checks = [check for check in spec.checks if check != "grad_enabled"]  # reads two flags
    left_out = frozenset(checks[1::3])
    recorded: list[tuple[str, str]] = []
    real = breadcrumb._CURRENT.write

    def write(check: str, operation: str = "") -> None:
        recorded.append((check, operation))
        real(check, operation)

    monkeypatch.setattr(breadcrumb._CURRENT, "write", write)
    probe = importlib.import_module(spec.module)
    breadcrumb.begin(left_out)

    findings = {
        each.id.partition(".")[2]: each.status for each in probe.judge(probe.observe("cpu"))
    }

    rest = {check: status for check, status in findings.items() if check not in left_out}
    assert set(rest.values()) <= {"pass", "skip"}
    assert "pass" in rest.values()
    applied = {check for check, status in rest.items() if status != "skip"}
    assert applied - {"grad_enabled"} <= {check for check, _ in recorded}
    assert not left_out & {check for check, _ in recorded}
    assert len({operation for _, operation in recorded}) > len(applied)


def test_what_was_wrong_is_recorded_until_the_next_probe(page: int) -> None:
    """Beside the place, which goes on being told."""
    breadcrumb.begin()
    none_yet = is_wrong(page)
    breadcrumb.check("rows")
    breadcrumb.record_wrong()
    breadcrumb.operation("é" * 1000)
    recorded, at = is_wrong(page), read_breadcrumb(page)
    breadcrumb.begin()

    assert (none_yet, recorded, is_wrong(page)) == (False, True, False)
    assert at.check == "rows"


def test_who_is_asked_to_tell_tries_nothing_more(page: int) -> None:
    """What was wrong until then is a failure; of what was not tried whole nothing is told."""

    def trial(name: str, *, right: bool = True, asks: bool = False) -> Custom:
        def body(_: str) -> Iterator[Comparison]:
            yield fact(name, right, expected=True)
            if asks:
                ask_to_tell(page)

        return Custom(name, body)

    breadcrumb.begin()
    table = {
        "whole": [trial("a")],
        "wrong": [trial("b", right=False)],
        "part": [trial("c", asks=True), trial("d", right=False)],
        "none": [trial("e", right=False)],
    }
    seen = families.observe({name: partial(_given, each) for name, each in table.items()}, "cpu")
    found = [families.family_finding(f"p.{name}", seen) for name in table]

    assert [each.status for each in found] == ["pass", "fail", "skip", "skip"]
    assert {each.message for each in found[2:]} == {f"{GPU_BUSY}: others came to it"}
    assert is_wrong(page)


def _given(trials: list[Custom], _: str) -> list[Custom]:
    return trials
