"""What retries told and where an output was wrong, each in one line."""

from typing import Any

import pytest

from probes.contract import Finding, Pattern, Triage, Try
from validator.triage import describe, lines, shape, summary, told

TWICE: dict[str, Any] = {"kind": "persistent", "retries": 2, "failures": 2}
AGAIN = "persistent: failed again in 2 of 2 retries"
NAMES = tuple(f"cuda:{n}" for n in range(1, 8))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (TWICE, AGAIN),
        (
            {"kind": "intermittent", "retries": 2, "failures": 0},
            "intermittent: failed again in 0 of 2 retries",
        ),
        (
            {**TWICE, "location": "environment", "fails_on": ("cpu",)},
            f"{AGAIN}; fails on the CPU too: environment",
        ),
        (
            {**TWICE, "location": "device", "passes_on": ("cpu",)},
            f"{AGAIN}; passes on the CPU: device",
        ),
        (
            {**TWICE, "raises_on": ("cpu",)},
            f"{AGAIN}; raised on the CPU, which tells nothing of the device",
        ),
        (
            {"location": "device", "passes_on": ("cpu", "cuda:0", "cuda:1")},
            "passes on the CPU and 2 others of its kind: device",
        ),
        ({"location": "device", "passes_on": NAMES}, "passes on 7 others of its kind: device"),
        (
            {"location": "environment", "fails_on": NAMES},
            "fails on all 8 devices of its kind: environment",
        ),
        (
            {"fails_on": ("cuda:1",), "passes_on": ("cpu", *NAMES[1:])},
            "fails on 1 other of its kind too, passes on the CPU and 6 others of its kind",
        ),
        (
            {"fails_on": ("cpu",), "passes_on": ("cuda:1",)},
            "fails on the CPU too, passes on 1 other of its kind",
        ),
        (
            {**TWICE, "unfinished_on": ("cpu",)},
            f"{AGAIN}; retries on cpu did not end",
        ),
        ({}, ""),
    ],
)
def test_told(fields: dict[str, Any], text: str) -> None:
    """Whether it came again, where else it was made, and what that points to."""
    assert told(Triage(**fields)) == text


@pytest.mark.parametrize(
    ("degrees", "text"),
    [((41, 55, 60), f"{AGAIN}; at 41 °C, then 55, 60 °C"), ((41, None, 60), AGAIN), ((), AGAIN)],
)
def test_hot_or_cold(degrees: tuple[int | None, ...], text: str) -> None:
    """How warm the GPU was at each try, where all of it is known."""
    tries = tuple(Try(ended_s=1, temperature_c=each, failed=True) for each in degrees)

    assert describe(Triage(**TWICE, tries=tries)) == text


def test_heat_is_no_matter_of_what_fails_everywhere() -> None:
    """So that eight GPUs which fail alike are told of in one paragraph."""
    tries = (Try(ended_s=1, temperature_c=40, failed=True),)
    triage = Triage(**TWICE, tries=tries, location="environment", fails_on=("cpu",))

    assert "°C" not in describe(triage)


def failure(check: str, **fields: Any) -> Finding:
    """A failed check with a triage."""
    return Finding(id=check, status="fail", triage=Triage(**fields))


def test_the_summary_of_checks_that_differ() -> None:
    """Each text once, with the checks it is about; what passed says nothing."""
    alike = [failure("p.a", **TWICE), failure("p.b", **TWICE), Finding(id="p.c", status="pass")]
    other = failure("p.d", location="device", passes_on=("cpu",))

    assert summary([]) == summary([Finding(id="p.a", status="fail")]) == ""
    assert summary(alike) == AGAIN
    assert summary([*alike, other]) == f"{AGAIN}, of a, b; passes on the CPU: device, of d"


ONE: dict[str, Any] = {"elements": 100, "mismatches": 1, "first": ((1, 2),)}
COLUMN: dict[str, Any] = {
    "elements": 2048,
    "mismatches": 64,
    "first": ((0, 5), (1, 5), (2, 5)),
    "last": ((61, 5), (62, 5), (63, 5)),
    "common_index": (None, 5),
    "stride": 32,
    "regular": True,
}
_COLUMN = "mm (f32): 64 elements from [0, 5] to [63, 5]"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (ONE, "mm (f32): 1 element, [1, 2]"),
        ({**ONE, "bits_any": "0x08", "bits_all": "0x08"}, "[1, 2]; bits 0x08 in each"),
        ({**ONE, "bits_any": "0x0c", "bits_all": "0x08"}, "bits 0x0c in some, 0x08 in each"),
        ({**ONE, "bits_any": "0x0c", "bits_all": "0x00"}, "; bits 0x0c in some"),
        ({**ONE, "second_read": "same"}, "[1, 2]; the same when read again"),
        ({**ONE, "second_read": "right"}, "[1, 2]; right when read again"),
        ({**ONE, "second_read": "different"}, "[1, 2]; wrong in another way when read again"),
        (COLUMN, f"{_COLUMN}, 32 apart, all at 5 on axis 1"),
        ({**COLUMN, "regular": False}, f"{_COLUMN}, multiples of 32 apart, all at 5 on axis 1"),
        ({**COLUMN, "stride": 1, "common_index": ()}, f"{_COLUMN}, one after another"),
        ({**COLUMN, "stride": 1, "regular": False, "common_index": ()}, _COLUMN),
        ({**COLUMN, "mismatches": 2048}, "mm (f32): every element"),
        (
            {**ONE, "mismatches": 2, "first": ((0,), (3,)), "stride": 3, "regular": True},
            "mm (f32): 2 elements from [0] to [3]",
        ),
    ],
)
def test_shape(fields: dict[str, Any], text: str) -> None:
    """Count, ends, stride, a common row or column, bits, second read."""
    finding = Finding(id="p.c", status="fail", patterns={"mm (f32)": Pattern(**fields)})

    assert shape(finding).endswith(text)
    assert shape(finding).startswith("mm (f32): ")


def test_lines() -> None:
    """One for the pattern and one for the triage, where they are known."""
    both = failure("p.a", **TWICE).model_copy(update={"patterns": {"mm": Pattern(**ONE)}})

    assert list(lines(both)) == [("pattern", "mm: 1 element, [1, 2]"), ("triage", AGAIN)]
    assert list(lines(failure("p.a"))) == list(lines(Finding(id="p.a", status="fail"))) == []


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"mismatches": 0, "first": ()}, ""),
        ({"mismatches": 2, "first": ()}, ""),
        ({"mismatches": 1, "first": ((1,),), "bits_any": "0x1", "bits_all": "zz"}, "zz in each"),
    ],
)
def test_a_pattern_that_makes_no_sense_is_no_crash(fields: dict[str, Any], text: str) -> None:
    """A report may come from anywhere, and is shown whatever stands there."""
    finding = Finding(id="a.b", status="fail", patterns={"mm": Pattern(elements=4, **fields)})

    assert shape(finding).startswith("mm: ")
    assert shape(finding).endswith(text)
