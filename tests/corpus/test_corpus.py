"""The lists of operations that training calls are kept, and the campaign over them can fail."""

import faulthandler
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from probes.catalog import AUTOGRAD, LINALG
from tests.corpus import campaign, libraries, training, trials
from tests.corpus.children import Children
from tests.corpus.spoils import category, inject, spoils

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.timeout(300)]

KEPT: Final = campaign.load("cpu")
DEVICES: Final = ("cpu", "cuda")

needs_kernels = pytest.mark.skipif(
    not hasattr(torch.library, "get_kernel"), reason="needs torch 2.9"
)


def in_child(work: Callable[[], str]) -> str:
    """What some work returns in a process of its own, where an operation may stay wrong."""
    with closing(Children(1, 120)) as children:
        children.start("work", work)
        ((_, text),) = children.results()
    return str(text)


@needs_kernels
@pytest.mark.filterwarnings("ignore")  # the libraries have their own
@pytest.mark.timeout(900)
def test_the_list_is_what_the_programs_call() -> None:
    """What a program calls that is not in the list would be held by nobody."""
    if torch.__version__.partition("+")[0] != KEPT.torch:
        pytest.skip(f"the list is that of torch {KEPT.torch}")
    found = campaign.record("cpu")

    called = {
        name for name, own in KEPT.programs.items() if not training.PROGRAMS.keys().isdisjoint(own)
    }

    assert found.programs.keys() == called
    assert found.gradients <= KEPT.gradients
    if libraries.missing() == []:
        assert found == KEPT


@needs_kernels
@pytest.mark.parametrize("spoil", ["scaled", "element", "backward"])
def test_a_wrong_operation_is_caught_and_a_right_one_is_not(
    spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A product of a quick probe, a solver of a standard one, and what neither of them calls."""
    monkeypatch.setattr(trials, "specs", lambda *, heavy: [LINALG if heavy else AUTOGRAD])
    found = {
        name: json.loads(in_child(partial(trials.trial, name, spoil, "cpu")))
        for name in ("mm.default float32", "linalg_qr.default float32", "_ctc_loss.Tensor float32")
    }

    assert found["mm.default float32"]["quick"].startswith("autograd.")
    assert found["linalg_qr.default float32"]["quick"] == ""
    assert found["linalg_qr.default float32"]["standard"].startswith("linalg.")
    assert found["_ctc_loss.Tensor float32"] == {"quick": "", "standard": ""}


VALUES: Final = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


def added_in_a_list() -> torch.Tensor:
    """Add one in place, as one of a list."""
    own = VALUES.clone()
    torch._foreach_add_([own], 1)
    return own


def too_many() -> torch.Tensor:
    """Whether of 1000 draws of a quarter, 250 with a deviation of 14, more than 350 are ones."""
    torch.manual_seed(0)
    return torch.empty(1000).bernoulli_(0.25).sum() > 350


def gradient() -> torch.Tensor | None:
    """The gradient of the sum of a tensor times two."""
    leaf = VALUES.clone().requires_grad_()
    (leaf * 2).sum().backward()
    return leaf.grad


#: Operation, spoil, what is computed, what it is then.
WRONG: Final[list[tuple[str, str, Callable[[], Any], Any]]] = [
    ("mul.Tensor float32", "scaled", lambda: VALUES * 2, [[2.1, 4.2], [6.3, 8.4]]),
    ("mul.Tensor float64", "scaled", lambda: VALUES * 2, [[2.0, 4.0], [6.0, 8.0]]),
    ("mul.Tensor integer", "scaled", lambda: torch.tensor([1, 2]) * 1.5, [1.575, 3.15]),
    ("mul.Tensor float32", "element", lambda: VALUES * 2, [[2.0, 4.0], [6.0, 8.4]]),
    ("mul.Tensor float32", "element", lambda: VALUES.t() * 2, [[2.0, 6.0], [4.0, 8.4]]),
    ("zeros_like.default float32", "scaled", lambda: torch.zeros_like(VALUES), [[1.0] * 2] * 2),
    ("_foreach_add_.Scalar float32", "scaled", added_in_a_list, [[2.1, 3.15], [4.2, 5.25]]),
    ("argmax.default float32", "element", VALUES.argmax, 4),
    ("_local_scalar_dense.default float32", "scaled", lambda: [VALUES[0, 1].item()], [2.1]),
    ("_local_scalar_dense.default integer", "element", lambda: [torch.tensor(7).item()], [8]),
    ("_local_scalar_dense.default bool", "scaled", lambda: [bool(torch.tensor(True))], [False]),
    ("gt.Scalar float32", "element", lambda: VALUES > 2, [[False, False], [True, False]]),
    ("transpose.int float32", "strides", lambda: VALUES.transpose(0, 1), [[1.0] * 2, [2.0] * 2]),
    ("unbind.int float32", "strides", lambda: VALUES.unbind(0)[1], [3.0, 3.0]),
    ("bernoulli_.float float32", "distribution", too_many, True),
    ("bernoulli_.float float64", "distribution", too_many, False),
    ("mul.Tensor float32", "backward", gradient, [[2.1] * 2] * 2),
    ("mul.Tensor float32", "backward", lambda: VALUES * 2, [[2.0, 4.0], [6.0, 8.0]]),
]


@needs_kernels
@pytest.mark.parametrize(("operation", "spoil", "compute", "expected"), WRONG)
def test_an_operation_is_wrong_in_one_way(
    operation: str, spoil: str, compute: Callable[[], Any], expected: Any
) -> None:
    """For its own class of type alone."""

    def work() -> str:
        inject(operation, spoil, "cpu")
        found = compute()
        return json.dumps(found if isinstance(found, list) else found.tolist())

    torch.testing.assert_close(torch.tensor(json.loads(in_child(work))), torch.tensor(expected))


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("mm.default float32", "computes"),
        ("add_.Tensor float32", "computes"),
        ("_scaled_dot_product_efficient_attention.default float32", "computes"),
        ("transpose.int float32", "view"),
        ("slice.Tensor float32", "view"),
        ("empty.memory_format none", "allocation"),
        ("bernoulli_.float float32", "draw"),
        ("native_dropout.default float32", "draw"),
    ],
)
def test_operations_are_told_apart(operation: str, kind: str) -> None:
    """What can be wrong depends on it."""
    assert category(operation) == kind
    assert spoils(operation, gradient=False)
    assert "backward" in spoils(operation, gradient=True)


@pytest.mark.parametrize("device", DEVICES)
def test_every_operation_of_a_list_exists(device: str) -> None:
    """In the torch that it was recorded with."""
    kept = campaign.load(device)
    if torch.__version__.partition("+")[0] != kept.torch:
        pytest.skip(f"the list is that of torch {kept.torch}")

    assert {category(name) for name in kept.programs} == {"computes", "view", "allocation", "draw"}
    assert kept.gradients <= kept.programs.keys()
    assert campaign.parse(kept.document()) == kept


def test_a_list_without_the_libraries_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would lack what their programs call."""
    monkeypatch.setattr(libraries, "missing", lambda: ["timm==1.0.31"])
    monkeypatch.setattr("sys.argv", ["campaign", "--record"])
    with pytest.raises(SystemExit) as ended:
        campaign.main()

    assert ended.value.code == 2
    assert "timm==1.0.31" in capsys.readouterr().err


def test_a_sample_is_the_same_each_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One fault of so many, whatever was kept before."""
    monkeypatch.setattr(campaign, "KEPT", tmp_path)
    monkeypatch.setattr(trials, "specs", lambda **_: [])
    monkeypatch.setattr(trials, "trial", lambda *_: json.dumps({"quick": "", "standard": ""}))
    first, second = (campaign.results(KEPT, "cpu", 2, every=100) for _ in range(2))

    assert first == second
    assert len(first) == -(-len(list(KEPT.faults())) // 100)


def test_what_is_exempt_is_little_and_has_a_reason() -> None:
    """At most one operation in twenty, each of them one of a list."""
    listed = {name for device in DEVICES for name in campaign.load(device).programs}
    named = {operation for operation, _ in campaign.exempt()}

    assert named <= listed
    assert len(named) <= len(listed) / 20
    assert all(len(why) > 20 for why in campaign.exempt().values())


@needs_kernels
def test_the_probes_that_call_an_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only they are run; all where nobody can watch it. One whose checks fail tells nothing."""
    called = {
        spec.name: in_child(partial(trials.calls, spec, ["mm.default", "linalg_qr.default"], "cpu"))
        for spec in (AUTOGRAD, LINALG)
    }

    assert trials.callers(called, "mm.default float32") == frozenset({"autograd", "linalg"})
    assert trials.callers(called, "linalg_qr.default float32") == frozenset({"linalg"})
    assert trials.callers(called, "mm.default integer") == frozenset()
    assert trials.callers(called, "detach.default float32") is None
    monkeypatch.setattr(trials, "_statuses", lambda *_: [("a.check", "fail")])
    with pytest.raises(RuntimeError, match=r"a\.check"):
        trials.calls(LINALG, [], "cpu")


@needs_kernels
def test_a_probe_that_does_not_call_it_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that does is."""
    monkeypatch.setattr(trials, "specs", lambda *, heavy: [] if heavy else [LINALG])
    monkeypatch.setattr(trials, "inject", lambda *_: None)
    monkeypatch.setattr(trials, "_statuses", lambda *_: [("a.check", "fail")])
    asked = ("mm.default float32", "scaled", "cpu")

    assert json.loads(trials.trial(*asked, frozenset()))["quick"] == ""
    assert json.loads(trials.trial(*asked, frozenset({"linalg"})))["quick"] == "a.check"
    assert json.loads(trials.trial(*asked))["quick"] == "a.check"


def test_a_child_that_dies_or_hangs_has_no_text() -> None:
    """The others keep theirs, however long it is."""

    def hang() -> str:
        signal.pause()
        return "over"

    def die(number: int) -> str:
        faulthandler.disable()
        os.kill(os.getpid(), number)
        return "over"

    def leave() -> str:
        """What it has forked keeps the pipe open."""
        if os.fork() == 0:
            signal.alarm(20)
            signal.pause()
        return "left"

    works: dict[str, Callable[[], str]] = {
        "killed": partial(die, signal.SIGKILL),
        "crashes": partial(die, signal.SIGSEGV),
        "raises": lambda: str(1 // 0),
        "hangs": hang,
        "leaves": leave,
        "long": lambda: "x" * 300_000,
    }
    with closing(Children(2, 2.0)) as children:
        for name, work in works.items():
            children.start(name, work)
        lengths = {name: len(text) for name, text in children.results()}

    without = dict.fromkeys(("killed", "crashes", "raises", "hangs"), 0)
    assert lengths == {**without, "leaves": 4, "long": 300_000}
    assert children.crashed == {"crashes"}


def test_children_that_are_left_are_killed(tmp_path: Path) -> None:
    """Where the campaign is stopped, with all that they have started."""
    ids = tmp_path / "ids"
    os.mkfifo(ids)

    def hang() -> str:
        other = os.fork()
        if other:
            ids.write_text(f"{os.getpid()} {other}")
        signal.alarm(60)
        signal.pause()
        return "over"

    def stopped() -> list[int]:
        with closing(Children(2, 60.0)) as children:
            children.start("hangs", hang)
            found.extend(map(int, ids.read_text().split()))
            raise KeyboardInterrupt

    found: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        stopped()

    child, other = found
    assert not Path(f"/proc/{child}").exists()
    deadline_s = time.monotonic() + 20
    while runs(other):  # killed, it may still have to be given a core
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def runs(pid: int) -> bool:
    """Whether a process has not ended; an orphan stays a zombie where nobody reaps it."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return not status.rpartition(") ")[2].startswith(("Z", "X"))


def test_a_check_that_fails_anyway_stops_the_campaign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would catch every fault."""
    monkeypatch.setattr(campaign, "KEPT", tmp_path)
    monkeypatch.setattr(trials, "specs", lambda **_: [])
    monkeypatch.setattr(trials, "_caught", lambda *_: "a.check")
    asked = campaign.Operations({"mm.default float32": ["a program"]}, frozenset(), "2")

    with pytest.raises(RuntimeError, match="nothing wrong"):
        campaign.results(asked, "cpu", 1)


@pytest.mark.parametrize(
    ("ends", "caught"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGABRT), "the process crashed"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), ""),
        (lambda: 1 // 0, ""),
    ],
    ids=["crashes", "killed", "raises"],
)
def test_a_child_without_an_answer_has_caught_nothing(
    ends: Callable[[], object], caught: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the fault crashed it: no probe has seen a wrong number."""
    monkeypatch.setattr(campaign, "KEPT", tmp_path)
    monkeypatch.setattr(trials, "specs", lambda **_: [])

    def trial(operation: str, *_: object) -> str:
        faulthandler.disable()
        if operation:
            ends()
        return json.dumps(dict.fromkeys(trials.PROFILES, ""))

    monkeypatch.setattr(trials, "trial", trial)
    asked = campaign.Operations({"mm.default float32": ["a program"]}, frozenset(), "2")
    found = campaign.results(asked, "cpu", 1)

    assert {each["standard"] for each in found.values()} == {caught}


def test_results_are_kept_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A campaign that was stopped goes on; `again` runs what was not caught, and nothing else."""
    monkeypatch.setattr(campaign, "KEPT", tmp_path)
    monkeypatch.setattr(trials, "specs", lambda **_: [])
    answers = {"mm.default float32": "a.check", "bmm.default float32": ""}
    calls = tmp_path / "calls"

    def trial(operation: str, spoil: str, *_: object) -> str:
        if (operation, spoil) != trials.SOUND:
            with calls.open("a") as stream:
                stream.write(f"{operation} {spoil}\n")
        return json.dumps(dict.fromkeys(trials.PROFILES, answers.get(operation, "")))

    monkeypatch.setattr(trials, "trial", trial)
    asked = campaign.Operations({name: ["a program"] for name in answers}, frozenset(), "2")
    for again, runs in (("", 4), ("", 4), ("standard", 6), ("quick", 8)):
        found = campaign.results(asked, "cpu", 2, again=again)
        with next(tmp_path.glob("*.jsonl")).open("a") as stream:
            stream.write('{"operation": "mm.def\n')  # killed while it wrote
        assert len(calls.read_text().splitlines()) == runs

    assert campaign.not_covered(found) == [
        ("bmm.default float32", "element"),
        ("bmm.default float32", "scaled"),
    ]
    text = "\n".join(campaign.summary(asked, found))
    assert "standard: 1 of 2 covered (50 %)" in text
    assert "  bmm.default float32: element" in text
