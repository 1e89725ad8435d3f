"""The node's conditions in Kubernetes: what changes them, and what leaves them as they are."""

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import pytest

from probes.catalog import CATALOG
from tests.deploy.components import served
from validator.service.condition import Condition, conditions
from validator.service.word import OnDevice, Word, word_of

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=timezone.utc)


Devices = Sequence[OnDevice]


def probe(*devices: tuple[Any, ...]) -> Devices:
    """Status and reason of a probe on each device, and the checks that failed or were left out."""
    return [OnDevice(*one) for one in devices]


def word(verdict: Any, line: str = "", gpus: int = 0, **probes: Devices) -> Word:
    """What the daemon says."""
    return Word(verdict, line or f"{verdict}: why", probes, gpus, frozenset({"torch_version"}))


def after(*words: Word, minutes: float = 1) -> dict[str, Condition]:
    """The conditions of a node that had none, by the last words of their types."""
    known: dict[str, Condition] = {}
    for step, one in enumerate(words):
        now = NOW + timedelta(minutes=step * minutes)
        known |= {new["type"]: new for new in conditions(one, list(known.values()), now)}
    return {name.removeprefix("GPUEnvironment"): one for name, one in known.items()}


def statuses(*words: Word) -> tuple[str | None, str | None]:
    """Ready and Failed after these words."""
    known = after(*words)
    ready, failed = (known.get(name, {}).get("status") for name in ("Ready", "Failed"))
    return ready, failed


SOUND, FAILED, UNKNOWN = word("sound"), word("failed"), word("unknown")


@pytest.mark.parametrize(
    ("words", "ready", "failed"),
    [
        ((SOUND,), "True", "False"),
        ((FAILED,), "False", "True"),
        ((UNKNOWN,), "Unknown", None),  # nothing is proven, and nothing has failed
        ((SOUND, UNKNOWN), "Unknown", "False"),  # what could not be told blames no node
        ((FAILED, UNKNOWN), "Unknown", "True"),  # and absolves none
        ((FAILED, UNKNOWN, SOUND), "True", "False"),
        ((SOUND, FAILED), "False", "True"),
    ],
)
def test_a_verdict_alone_changes_what_failed(
    words: tuple[Word, ...], ready: str, failed: str | None
) -> None:
    """Ready is what is known now; Failed is what was last proven."""
    assert statuses(*words) == (ready, failed)


HOT = word("failed", "fail: hot_products on cuda:3: 2 wrong", hot_products=probe(("fail", None)))


@pytest.mark.parametrize(
    ("later", "failed"),
    [
        (probe((None, None)), "True"),  # after a start it has no result for an hour
        (probe(("skip", "gpu_busy")), "True"),
        (probe(("pass", "ok"), (None, None)), "True"),  # of the other device nothing is known
        (probe(("error", "internal_error")), "True"),
        (probe(("pass", "ok"), ("warn", "ok")), "False"),
        (probe(("skip", "not_applicable")), "False"),
        (probe(("skip", "disabled")), "False"),
        (probe(), "False"),  # it has no turn any more: whoever left it out has decided
    ],
)
def test_a_restart_of_the_daemon_absolves_no_node(later: Devices, failed: str) -> None:
    """What failed stands until the same probe passes, though the daemon forgot it."""
    known = after(HOT, UNKNOWN, word("sound", hot_products=later))

    assert known["Failed"]["status"] == failed
    assert known["Ready"]["status"] == {"True": "False", "False": "True"}[failed]
    assert ("hot_products on cuda:3" in known["Failed"]["message"]) == (failed == "True")


def test_another_fail_does_not_hide_the_first() -> None:
    """Both probes have to pass."""
    other = word(
        "failed", "fail: matmul", hot_products=probe((None, None)), matmul=probe(("fail", ""))
    )
    half = word("sound", hot_products=probe((None, None)), matmul=probe(("pass", "ok")))
    whole = word("sound", hot_products=probe(("pass", "ok")), matmul=probe(("pass", "ok")))

    assert after(HOT, other)["Failed"]["message"] == "fail: matmul [failed: matmul, hot_products]"
    assert statuses(HOT, other, half) == ("False", "True")
    assert statuses(HOT, other, half, whole) == ("True", "False")


CHECK: Final = word(
    "failed", memory_full=probe(("fail", "ok", ("memory_full.stuck", "memory_full.words")))
)


@pytest.mark.parametrize(
    ("left_out", "failed"),
    [
        ((), "False"),
        (("memory_full.heat",), "False"),  # another check, such as one for other hardware
        (("memory_full.stuck",), "True"),  # it left for a tenant before it came to that check
    ],
)
def test_a_pass_without_the_check_that_failed_absolves_no_node(
    left_out: tuple[str, ...], failed: str
) -> None:
    """A tenant hides no failure after a restart either."""
    later = word("sound", memory_full=probe(("pass", "ok", (), left_out)))
    known = after(CHECK, UNKNOWN, later)["Failed"]

    assert known["status"] == failed
    if failed == "True":
        assert known["message"].endswith("[failed: memory_full.stuck, memory_full.words]")


BITS: Final = ("hot_products.bfloat16",)
OF_EIGHT: Final = word("failed", gpus=8, hot_products=probe(("fail", "ok", BITS)))
PASSED: Final = probe(("pass", "ok"))


@pytest.mark.parametrize(
    ("gpus", "failed"),
    [(8, "False"), (9, "False"), (7, "True"), (0, "True")],
)
def test_a_gpu_that_is_gone_has_not_passed(gpus: int, failed: str) -> None:
    """Seven that pass prove nothing of the eighth; a new one in its place does, whichever it is."""
    known = after(OF_EIGHT, UNKNOWN, word("sound", gpus=gpus, hot_products=PASSED))

    assert known["Failed"]["status"] == failed


def test_a_gpu_that_comes_back_is_no_stranger() -> None:
    """Gone, and there again after the next start: its probe has to pass first."""
    gone = word("sound", gpus=7, hot_products=PASSED)
    back = word("sound", gpus=8, hot_products=probe(("pass", "ok"), (None, None)))
    well = word("sound", gpus=8, hot_products=PASSED)

    assert statuses(OF_EIGHT, gone, back) == ("False", "True")
    assert statuses(OF_EIGHT, gone, back, well) == ("True", "False")


def test_the_number_of_gpus_is_no_matter_of_the_hosts_probes() -> None:
    """A version that was wrong is right on any number, and a probe without a turn has decided."""
    wrong = word("failed", gpus=8, torch_version=probe(("fail", "ok")))
    right = word("sound", gpus=4, torch_version=PASSED)

    assert statuses(wrong, right) == ("True", "False")
    assert statuses(OF_EIGHT, word("sound", gpus=4)) == ("True", "False")


def test_more_checks_than_a_message_should_hold_are_their_probes() -> None:
    """And a message of an older sidecar, with names alone, is read."""
    ids = tuple(f"dtypes.check{number}" for number in range(601))
    many = after(word("failed", gpus=1, dtypes=probe(("fail", "ok", ids))))["Failed"]["message"]

    assert many.endswith("[failed: dtypes; GPUs: 1]")
    assert statuses(HOT, word("sound", hot_products=probe((None, None)))) == ("False", "True")


def test_a_pass_that_left_out_one_check_of_many_absolves_no_node() -> None:
    """Where an image is broken half of the catalogue fails; each check is remembered."""
    ids = tuple(f"{spec.name}.{check}" for spec in CATALOG for check in spec.promises)
    bad = word("failed", gpus=1, dtypes=probe(("fail", "ok", ids)))
    passed: dict[str, Any] = {spec.name: PASSED for spec in CATALOG}
    partial = probe(("pass", "ok", (), ("dtypes.products",)))
    known = after(bad, word("sound", gpus=1, **{**passed, "dtypes": partial}))["Failed"]

    assert "dtypes.products" in ids
    assert known["status"] == "True"
    assert known["message"].count(", ") == len(ids) - 1
    assert statuses(bad, word("sound", gpus=1, **passed)) == ("True", "False")


def test_what_stands_is_written_again_in_time_and_not_before() -> None:
    """A heartbeat each five minutes; the time of the transition stays."""
    known = after(SOUND)
    fresh = conditions(SOUND, list_of(known), NOW + timedelta(minutes=4))
    stale = conditions(SOUND, list_of(known), NOW + timedelta(minutes=5))

    assert fresh == []
    assert [one["type"] for one in stale] == ["GPUEnvironmentReady", "GPUEnvironmentFailed"]
    assert {one["lastTransitionTime"] for one in stale} == {"2026-11-26T12:00:00Z"}
    assert {one["lastHeartbeatTime"] for one in stale} == {"2026-11-26T12:05:00Z"}


def list_of(known: dict[str, Condition]) -> list[Condition]:
    """The conditions as the API server has them, among others."""
    return [{"type": "Ready", "status": "True"}, *known.values()]


def test_a_reason_that_counts_seconds_is_no_news() -> None:
    """A stale result does not write to the API server each half minute; a new fail does at once."""
    known = list_of(after(word("unknown", "error: a: stale: no new result for 901 s")))
    later = word("unknown", "error: a: stale: no new result for 931 s")
    fail = list_of(after(word("failed", "fail: a")))

    assert conditions(later, known, NOW + timedelta(seconds=30)) == []
    assert len(conditions(word("failed", "fail: b"), fail, NOW + timedelta(seconds=30))) == 2


def test_a_transition_has_its_time() -> None:
    """Of the change, not of the first word."""
    known = after(SOUND, FAILED, minutes=1)

    assert known["Ready"]["lastTransitionTime"] == "2026-11-26T12:01:00Z"
    assert known["Failed"]["reason"] == "GPUEnvironmentIsBroken"


def test_another_prefix_is_another_pair() -> None:
    """Two images on one node: neither writes the other's conditions."""
    first = conditions(FAILED, [], NOW)
    second = conditions(SOUND, first, NOW, "InferenceImage")

    assert [one["type"] for one in second] == ["InferenceImageReady", "InferenceImageFailed"]
    assert [one["status"] for one in second] == ["True", "False"]


LISTED = (
    b'[{"name": "a", "needs": "device", "devices": [{"device": "cuda:0:1", "status": "fail",'
    b' "reason": "ok", "failed": ["a.b"], "left_out": []}, {"device": "cuda:0:2", "status": null,'
    b' "reason": null, "failed": [], "left_out": []}]}, {"name": "b", "needs": "host", "devices":'
    b' [{"device": "cpu", "status": "pass", "reason": "ok", "failed": [], "left_out": ["b.c"]}]}]'
)


@contextlib.contextmanager
def answering(ready: bytes, probes: bytes, status: int) -> Iterator[str]:
    """A daemon that answers so; gives its address."""

    def answer(path: str, _: bytes) -> tuple[int, bytes]:
        return (status, ready) if path == "/readyz" else (200, probes)

    with served(answer) as address:
        yield f"http://{address}"


@pytest.mark.parametrize(
    ("status", "ready", "probes", "verdict", "line"),
    [
        (200, b"pass: 7 probes\n", LISTED, "sound", "pass: 7 probes"),
        (200, b"warn: a\n", b"[]", "sound", "warn: a"),
        (503, b"fail: a: 2 wrong\nwhole\n", b"[]", "failed", "fail: a: 2 wrong"),
        (503, b"error: a: stale: no new result\n", b"[]", "unknown", "error: a: stale"),
        (503, b"not ready: no result yet of a\n", b"[]", "unknown", "not ready"),
        (503, b"too many connections\n", b"[]", "unknown", "too many"),
        (500, b"fail: somebody else\n", b"[]", "unknown", "answered 500"),
        (404, b"", b"[]", "unknown", "answered 404"),
        (200, b"pass: a\n", b"no JSON", "unknown", "no list of probes"),
        (200, b"pass: a\n", b'{"name": 1}', "unknown", "no list of probes"),
        (200, b"pass: a\n", b'[{"name": "a"}]', "unknown", "no list of probes"),
        (503, b"fail: a\n", b"[1]", "unknown", "no list of probes"),
    ],
)
def test_what_a_daemon_says(
    status: int, ready: bytes, probes: bytes, verdict: str, line: str
) -> None:
    """Sound or failed by its own words alone; whatever else says nothing of the node."""
    with answering(ready, probes, status) as server:
        said = word_of(server)

    assert said.verdict == verdict
    assert line in said.line


def test_what_a_daemon_lists() -> None:
    """Statuses, checks, GPUs (instances are of one), and what is of the host."""
    with answering(b"fail: a\n", LISTED, 503) as server:
        said = word_of(server)

    assert said.probes == {
        "a": [OnDevice("fail", "ok", ("a.b",)), OnDevice(None, None)],
        "b": [OnDevice("pass", "ok", (), ("b.c",))],
    }
    assert said.gpus == 1
    assert said.of_host == frozenset({"b"})


def test_a_list_without_an_end_is_no_list() -> None:
    """What could not be read says nothing of the node, and ends nothing."""
    with answering(b"pass: a\n", b"[" * 200_000, 200) as server:
        assert word_of(server).verdict == "unknown"


def test_a_daemon_that_is_not_there_says_nothing() -> None:
    """Its port is closed while it starts."""
    assert word_of("http://127.0.0.1:9").verdict == "unknown"
