"""The train_eval probe: sound here, and each broken layer trips the check for it."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from probes.catalog import TRAIN_EVAL
from probes.contract import Comparison
from probes.faults.inject.training import (
    biased,
    children_only,
    freezing,
    halved,
    moving,
    own_only,
    silent_eval,
)
from probes.kit.generators import random_state_kept
from probes.train_eval import learning, probe
from tests.probes import fake_device
from tests.probes.broken import ATTENTION, Broken, one_bit, patched, scaled
from tests.probes.verdicts import tripped

PREFIX = "train_eval."
RIGHT = Comparison(operation="x", elements=4)
WRONG = Comparison(operation="x", elements=4, mismatches=1, first_index=(2,), xor_mask="0x1")

functional: Any = nn.functional


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: on a busy machine several make small operations slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def recorded(**changed: Comparison) -> probe.Observation:
    """The observation of a sound device, with some comparisons replaced."""
    sound = dict.fromkeys(TRAIN_EVAL.checks, RIGHT) | changed
    return probe.Observation(
        device="cuda:0", comparisons={name: (RIGHT, each) for name, each in sound.items()}
    )


def test_this_image_is_sound() -> None:
    """Every check passes on this machine's CPU, and none is skipped."""
    findings = list(probe.judge(probe.observe("cpu")))

    assert [(f.id, f.message) for f in findings if f.status != "pass"] == []


@pytest.mark.slow
def test_a_device_apart_from_the_host_is_sound() -> None:
    """The same checks hold on a device whose memory is not the host's."""
    assert fake_device.run("train_eval") == {"sound": set()}


@pytest.mark.parametrize("check", TRAIN_EVAL.checks)
def test_a_wrong_answer_trips_its_check_alone(check: str) -> None:
    """One wrong comparison trips the check of its family, with a hint, and no other."""
    findings = list(probe.judge(recorded(**{check: WRONG})))

    assert tripped(findings) == {PREFIX + check}
    assert all(f.hint for f in findings if f.status == "fail")


def test_every_check_is_yielded_in_order() -> None:
    """Each check of the catalogue has one finding; without comparisons it does not pass."""
    empty = probe.Observation(device="cpu", comparisons={})

    assert tuple(f.id for f in probe.judge(recorded())) == TRAIN_EVAL.check_ids
    assert tripped(probe.judge(empty)) == set(TRAIN_EVAL.check_ids)


def test_equal_bits_are_not_asked_of_a_gpu() -> None:
    """Where repeats are not promised, the check is skipped and says so."""
    observation = recorded().model_copy(update={"skips": {"repeats": "not promised"}})
    skips = [f for f in probe.judge(observation) if f.status == "skip"]

    assert [(f.id, f.message) for f in skips] == [(PREFIX + "repeats", "not promised")]


def test_a_passing_observation_is_small() -> None:
    """All of it fits a report: 20 KiB at most."""
    assert len(probe.observe("cpu").model_dump_json(exclude_defaults=True)) < 20 * 1024


@pytest.mark.slow
def test_no_false_alarm() -> None:
    """Thirty runs over random states, a few of them on two threads: nothing trips."""
    state = torch.get_rng_state()
    try:
        for turn in range(30):
            torch.manual_seed(turn)
            torch.set_num_threads(2 if turn % 10 == 9 else 1)

            assert not tripped(probe.judge(probe.observe("cpu"))), turn
    finally:
        torch.set_rng_state(state)


def test_global_state_is_left_alone() -> None:
    """The random state, grad mode and default dtype are as before, also after an exception."""
    before = torch.get_rng_state()
    with torch.no_grad():
        probe.observe("cpu")

        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32

    def draw() -> None:
        with random_state_kept("cpu"):
            torch.rand(1)
            raise KeyError

    with pytest.raises(KeyError):
        draw()

    assert torch.equal(torch.get_rng_state(), before)


def test_the_known_loss_is_exact_arithmetic() -> None:
    """The known loss and NumPy's losses are those of rational arithmetic."""
    data = learning.training_data()
    x = [[*(Fraction(int(v)) for v in row), Fraction(1)] for row in data.x]
    y = [[Fraction(int(v)) for v in row] for row in data.y]
    weight = [[Fraction(0)] * 5 for _ in range(4)]

    def errors() -> list[list[Fraction]]:
        return [
            [
                sum((a * b for a, b in zip(w, row, strict=True)), -target[k])
                for k, w in enumerate(weight)
            ]
            for row, target in zip(x, y, strict=True)
        ]

    def loss() -> float:
        return float(sum(e * e for row in errors() for e in row) / 64)

    losses = [loss()]
    for _ in range(50):
        error = errors()
        for k in range(4):
            for i in range(5):
                slope = sum(error[n][k] * x[n][i] for n in range(16)) * Fraction(2, 64)
                weight[k][i] -= slope * Fraction(1, 8)
        losses.append(loss())

    assert losses[-1] == learning.LAST_LOSS
    assert np.allclose(learning.numpy_training(50)[0], losses, rtol=1e-13, atol=0)


DROPOUT, BATCH_NORM, MSE = functional.dropout, functional.batch_norm, functional.mse_loss
TRAIN, TO, LOAD = nn.Module.train, nn.Module.to, nn.Module.load_state_dict
ZERO_GRAD, TORCH_LOAD, TORCH_SAVE = nn.Module.zero_grad, torch.load, torch.save


def dropout(
    change: Callable[[torch.Tensor, float], torch.Tensor], *, always: bool = False
) -> Callable[..., torch.Tensor]:
    """A dropout that `change` replaces, in train() or always."""

    def broken(
        x: torch.Tensor,
        p: float = 0.5,
        training: bool = True,  # noqa: FBT001, FBT002 - torch's own signature
        inplace: bool = False,  # noqa: FBT001, FBT002 - same
    ) -> torch.Tensor:
        if not (training or always) or p in {0.0, 1.0}:
            return DROPOUT(x, p, training, inplace)  # type: ignore[no-any-return]
        out = change(x, p)
        return x.copy_(out) if inplace else out

    return broken


def by_mask(mask: Callable[[torch.Tensor, float], torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A dropout with the given mask, which is 1 where a value is kept."""
    return dropout(lambda x, p: x * mask(x, p) / (1 - p))


def blocks(x: torch.Tensor, p: float) -> torch.Tensor:
    """A mask that keeps or drops two neighbours together."""
    half = torch.rand((x.numel() + 1) // 2) >= p
    return half.repeat_interleave(2)[: x.numel()].reshape(x.shape)


def same_each_time(x: torch.Tensor, p: float) -> torch.Tensor:
    """A mask from a generator that is seeded again at each call."""
    return torch.rand(x.shape, generator=torch.Generator().manual_seed(5)) >= p


def batch_norm(**changed: Any) -> Callable[..., torch.Tensor]:
    """A BatchNorm that replaces some of its arguments."""

    def broken(x: Any, mean: Any, var: Any, *rest: Any, **named: Any) -> torch.Tensor:
        names = ("weight", "bias", "training", "momentum", "eps")
        options = dict(zip(names, rest, strict=False)) | named
        for name, value in changed.items():
            options[name] = value(options.get(name, 0.1)) if callable(value) else value
        return BATCH_NORM(x, mean, var, **options)  # type: ignore[no-any-return]

    return broken


def noisy(out: torch.Tensor, *_: Any) -> torch.Tensor:
    """Change the last bit at random."""
    return out * (1 + torch.randint(0, 2, out.shape) * 2.0**-23)


#: Break of torch -> the checks that name it, all of which must trip.
BREAKS: dict[str, tuple[Callable[[], Any], set[str]]] = {
    "dropout alive in eval()": (
        lambda: patched(
            functional, dropout=dropout(lambda x, p: DROPOUT(x, p, True, False), always=True)
        ),
        {"dropout_eval", "modes_behave"},
    ),
    "dropout never drops": (
        lambda: patched(functional, dropout=dropout(lambda x, _: x + 0)),
        {"dropout_train", "modes_behave", "gradients_apart"},
    ),
    "dropout does not scale": (
        lambda: patched(functional, dropout=dropout(lambda x, p: x * (torch.rand(x.shape) >= p))),
        {"dropout_train", "dropout_backward"},
    ),
    "dropout scales by 1 + 1e-6 too much": (
        lambda: patched(
            functional, dropout=dropout(lambda x, p: DROPOUT(x, p, True, False) * (1 + 1e-6))
        ),
        {"dropout_train"},
    ),
    "dropout drops 52 of 100": (
        lambda: patched(functional, dropout=by_mask(lambda x, p: torch.rand(x.shape) >= p * 1.04)),
        {"dropout_train"},
    ),
    "dropout in pairs": (
        lambda: patched(functional, dropout=by_mask(blocks)),
        {"dropout_train"},
    ),
    "dropout with one mask": (
        lambda: patched(functional, dropout=by_mask(same_each_time)),
        {"dropout_train"},
    ),
    "dropout's gradient everywhere": (
        lambda: patched(
            functional,
            dropout=dropout(lambda x, p: x + (DROPOUT(x, p, True, False) - x).detach()),
        ),
        {"dropout_backward"},
    ),
    "dropout in place ignored": (
        lambda: patched(functional, dropout=lambda x, p, training, _: DROPOUT(x, p, training)),
        {"dropout_edges"},
    ),
    "dropout always in place": (
        lambda: patched(
            functional, dropout=lambda x, p, training, _: DROPOUT(x, p, training, True)
        ),
        {"dropout_edges"},
    ),
    "channel dropout by element": (
        lambda: patched(functional, dropout2d=DROPOUT),
        {"dropout_channels"},
    ),
    "channel dropout alive in eval()": (
        lambda: patched(functional, dropout3d=lambda x, p, _, inplace=False: DROPOUT(x, p, True)),
        {"dropout_eval"},
    ),
    "alpha dropout as plain": (
        lambda: patched(
            functional, alpha_dropout=lambda x, p, training, *_: DROPOUT(x, p, training)
        ),
        {"dropout_alpha"},
    ),
    "batch norm off by 1e-3": (
        lambda: Broken("native_batch_norm", scaled(1.001)),
        {"batch_norm_train", "batch_norm_eval"},
    ),
    "batch norm off by 1e-5": (
        lambda: Broken("native_batch_norm", scaled(1 + 2e-5)),
        {"batch_norm_train", "batch_norm_eval"},
    ),
    "batch norm frozen in train()": (
        lambda: patched(functional, batch_norm=batch_norm(training=False)),
        {"batch_norm_statistics"},
    ),
    "batch norm by batch in eval()": (
        lambda: patched(functional, batch_norm=batch_norm(training=True)),
        {"batch_norm_eval", "batch_norm_frozen", "batch_independence", "batch_norm_backward"},
    ),
    "batch norm's frozen mean moves": (
        lambda: patched(functional, batch_norm=moving),
        {"batch_norm_frozen"},
    ),
    "batch norm with another momentum": (
        lambda: patched(functional, batch_norm=batch_norm(momentum=lambda m: m * 0.99)),
        {"batch_norm_statistics"},
    ),
    "batch norm without eps": (
        lambda: patched(functional, batch_norm=batch_norm(eps=1e-12)),
        {"batch_norm_train", "batch_norm_eval"},
    ),
    "batch norm with biased variance": (
        lambda: patched(functional, batch_norm=biased),
        {"batch_norm_statistics"},
    ),
    "batch norm's gradient off by 1e-3": (
        lambda: Broken("native_batch_norm_backward", scaled(1.001)),
        {"batch_norm_backward"},
    ),
    "eval() stays at the top": (
        lambda: patched(nn.Module, train=own_only),
        {"modes_recurse", "modes_behave"},
    ),
    "eval() stops at the children": (
        lambda: patched(nn.Module, train=children_only),
        {"modes_recurse", "modes_behave"},
    ),
    "eval() does nothing": (
        lambda: patched(nn.Module, eval=lambda m: m),
        {"modes_recurse", "batch_norm_frozen"},
    ),
    "eval() gives None": (
        lambda: patched(nn.Module, eval=silent_eval),
        {"modes_recurse"},
    ),
    "eval() freezes parameters": (
        lambda: patched(nn.Module, train=freezing),
        {"gradients_apart"},
    ),
    "layer norm off by 1e-4": (
        lambda: Broken("native_layer_norm", scaled(1.0001)),
        {"no_mode", "attention_modes"},
    ),
    "group norm off by 1e-4": (lambda: Broken("native_group_norm", scaled(1.0001)), {"no_mode"}),
    "convolution with a wrong bit": (lambda: Broken("convolution", one_bit), {"no_mode"}),
    "random slope in eval()": (
        lambda: patched(functional, rrelu=lambda x, low, high, *_: torch.rrelu(x, low, high, True)),
        {"random_slope"},
    ),
    "fused encoder off by 1e-3": (
        lambda: Broken("_transformer_encoder_layer_fwd", scaled(1.001)),
        {"attention_modes"},
    ),
    "fused attention off by 1e-9": (
        lambda: Broken("_native_multi_head_attention", scaled(1 + 1e-9)),
        {"attention_modes"},
    ),
    "attention off by 1e-3": (
        lambda: Broken(ATTENTION, scaled(1.001)),
        {"attention_modes"},
    ),
    "products with a wrong bit": (
        lambda: Broken("addmm", one_bit),
        {"first_steps"},
    ),
    "products with a random last bit": (
        lambda: Broken("addmm", noisy),
        {"first_steps", "repeats"},
    ),
    "gradient products off by 1e-3": (
        lambda: Broken("mm", scaled(1.001)),
        {"first_steps", "learning"},
    ),
    "loss not averaged": (
        lambda: patched(functional, mse_loss=lambda x, y: MSE(x, y, reduction="sum") / 63),
        {"first_steps", "learning"},
    ),
    "gradients never zeroed": (
        lambda: patched(nn.Module, zero_grad=lambda *_, **__: None),
        {"first_steps", "learning"},
    ),
    "saved in half precision": (lambda: patched(torch, save=halved), {"saved"}),
    "saved short": (
        lambda: patched(torch, save=lambda state, file: file.write(b"PK")),
        {"saved"},
    ),
    "saved garbled": (
        lambda: patched(torch, save=lambda state, file: TORCH_SAVE({"a": Fraction}, file)),
        {"saved"},
    ),
    "loaded as zeros": (
        lambda: patched(
            torch, load=lambda *a, **k: {n: v * 0 for n, v in TORCH_LOAD(*a, **k).items()}
        ),
        {"saved"},
    ),
    "loaded without a buffer": (
        lambda: patched(torch, load=lambda *a, **k: dict(list(TORCH_LOAD(*a, **k).items())[1:])),
        {"saved"},
    ),
    "loading without strictness": (
        lambda: patched(
            nn.Module, load_state_dict=lambda m, state, strict=True: LOAD(m, state, strict=False)
        ),
        {"loads"},
    ),
    "loading shares": (
        lambda: patched(
            nn.Module,
            load_state_dict=lambda m, state, strict=True: LOAD(m, state, strict, assign=True),
        ),
        {"loads"},
    ),
    "loading does nothing": (
        lambda: patched(
            nn.Module,
            load_state_dict=lambda m, state, strict=True: LOAD(m, m.state_dict() | {}, strict),
        ),
        {"saved", "loads"},
    ),
    "to() copies the module": (
        lambda: patched(nn.Module, to=lambda m, *a, **k: TO(deepcopy(m), *a, **k)),
        {"module_moves"},
    ),
    "to(dtype) does nothing": (
        lambda: patched(
            nn.Module,
            to=lambda m, *a: m if isinstance(a[0], torch.dtype) else TO(m, *a),
        ),
        {"module_moves"},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BREAKS)
def test_a_break_of_torch_is_named(name: str) -> None:
    """Torch broken below `observe` trips the checks that say what is broken."""
    broken, checks = BREAKS[name]
    with broken():
        observation = probe.observe("cpu")

    assert {PREFIX + check for check in checks} <= tripped(probe.judge(observation))


def test_every_check_is_named_by_a_break() -> None:
    """Every check is tripped by a fault of torch, not only by an edited observation."""
    assert set().union(*(checks for _, checks in BREAKS.values())) == set(TRAIN_EVAL.checks)


def test_a_break_costs_only_what_it_touches() -> None:
    """An operation that raises fails the checks that use it and no other."""

    def refuses(*_: Any, **__: Any) -> None:
        raise RuntimeError("no kernel image is available")

    with Broken("native_group_norm", refuses, instead=True):
        findings = list(probe.judge(probe.observe("cpu")))
    finding = next(f for f in findings if f.id == PREFIX + "no_mode")

    assert tripped(findings) == {finding.id}
    assert "no kernel image" in finding.message
