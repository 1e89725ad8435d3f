"""train_eval on devices that lack something, and with other settings."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from probes.contract import Comparison
from probes.kit import capabilities, precision, references
from probes.train_eval import attention, layers, learning, probe, saving, state
from tests.probes.verdicts import tripped

pytestmark = pytest.mark.slow

ABSENT = "The operator 'aten::rrelu' is not currently implemented for the MPS device"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, which is fastest for small operations."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def without_rrelu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make RReLU raise as on a back-end without it."""

    def absent(*_: object) -> torch.Tensor:
        raise NotImplementedError(ABSENT)

    monkeypatch.setattr(nn.RReLU, "forward", absent)


def test_a_layer_that_a_back_end_lacks_is_a_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Apple's GPUs: this check is skipped, the others are judged."""
    without_rrelu(monkeypatch)
    monkeypatch.setattr(capabilities, "back_end", lambda _device: "mps")

    findings = list(probe.judge(probe.observe("cpu")))

    skipped = {f.id.partition(".")[2]: f.message for f in findings if f.status == "skip"}
    assert not tripped(iter(findings))
    assert skipped.keys() == {"random_slope"}
    assert ABSENT in skipped["random_slope"]


def test_the_same_on_a_back_end_that_has_it_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU has every layer."""
    without_rrelu(monkeypatch)

    assert tripped(probe.judge(probe.observe("cpu"))) == {"train_eval.random_slope"}


def test_a_device_without_float64_learns_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intel's Arc and Flex and Apple's GPUs have no float64: all steps are in float32."""
    monkeypatch.setattr(learning, "widest_float", lambda _device: torch.float32)
    dtypes: list[torch.dtype] = []
    train = learning._torch_training

    def recording(device: str, dtype: torch.dtype, steps: int) -> tuple[list[float], nn.Linear]:
        dtypes.append(dtype)
        return train(device, dtype, steps)

    monkeypatch.setattr(learning, "_torch_training", recording)
    found = [*learning.first_steps("cpu"), *learning.loss_curve("cpu")]

    assert all(comparison.holds for comparison in found)
    assert set(dtypes) == {torch.float32}


@pytest.mark.parametrize(("kind", "right"), [("cuda", False), ("hip", True)])
def test_winograd_may_round_a_convolution_on_rocm_alone(
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    right: bool,  # noqa: FBT001
) -> None:
    """An error of 0.2 passes where MIOpen may use Winograd, and fails elsewhere."""
    forward = nn.Conv2d.forward
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: forward(self, x) + 0.2)
    monkeypatch.setattr(layers, "back_end", lambda _device: kind)

    wrong = [c.operation for c in layers.no_mode("cpu") if not c.holds]

    assert bool(wrong) is not right
    assert all(name.startswith("Conv2d") for name in wrong)


def test_a_convolution_has_no_stride_1() -> None:
    """With stride 1 cuDNN may choose an FFT, and MIOpen a Winograd, for a filter of 2 x 2."""
    strides: list[tuple[int, ...]] = []
    forward = nn.Conv2d.forward

    def recording(self: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        strides.append(tuple(self.stride))
        return forward(self, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Conv2d, "forward", recording)
        layers.no_mode("cpu")

    assert set(strides) == {(2, 2)}


def test_products_have_full_precision_whatever_is_set() -> None:
    """The user may set TF32 or bfloat16; the probe computes and judges in full float32."""
    precisions: list[str] = []

    def note(_device: str) -> list[Comparison]:
        precisions.append(torch.get_float32_matmul_precision())
        return []

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(probe, "_FAMILIES", {"learning": note})
            probe.observe("cpu")
        after = torch.get_float32_matmul_precision()
    finally:
        torch.set_float32_matmul_precision(before)

    assert (precisions, after) == (["highest"], "medium")


def in_bfloat16(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """A linear layer whose factors are rounded to bfloat16, as a variable may request."""
    weight, given = self.weight.bfloat16().float(), x.bfloat16().float()
    return nn.functional.linear(given, weight, self.bias)


@pytest.mark.parametrize(
    ("variables", "right"), [("DNNL_DEFAULT_FPMATH_MODE=BF16", True), ("", False)]
)
def test_a_library_that_shortens_products_unasked_widens_the_bound(
    monkeypatch: pytest.MonkeyPatch,
    variables: str,
    right: bool,  # noqa: FBT001
) -> None:
    """Without such a variable a shortened product is wrong."""
    monkeypatch.setattr(precision, "read", lambda _device: precision.Precision(forced_by=variables))
    real_forward = saving._Net.forward

    def shortened(self: saving._Net, x: torch.Tensor) -> torch.Tensor:
        if not shorten:
            return real_forward(self, x)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nn.Linear, "forward", in_bfloat16)
            return real_forward(self, x)

    calls = iter(range(100))
    shorten = False

    def first_only(self: saving._Net, x: torch.Tensor) -> torch.Tensor:
        nonlocal shorten
        shorten = next(calls) == 1  # the answer of the net that was saved, not its training
        return shortened(self, x)

    monkeypatch.setattr(saving._Net, "forward", first_only)
    answers = [c for c in saving.saved("cpu") if c.operation == "answers in eval()"]

    assert [comparison.holds for comparison in answers] == [right]


def test_the_bound_of_the_fused_path_follows_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is 2^12 units of float32, or 2^5 of bfloat16 where a variable shortens products."""
    allowed: list[float] = []
    real_compare = references.compare

    def recording(operation: str, out: torch.Tensor, right: state.Array, bound: float) -> object:
        allowed.append(bound)
        return real_compare(operation, out, right, bound)

    monkeypatch.setattr(attention, "compare", recording)
    monkeypatch.setattr(
        attention, "to_tensor", lambda x, _device, dtype: state.to_tensor(x, "cpu", dtype)
    )
    monkeypatch.setattr(nn.Module, "to", lambda self, _device, dtype: self.type(dtype))
    for forced in ("", "NVIDIA_TF32_OVERRIDE=1"):
        forced_precision = precision.Precision(forced_by=forced)
        monkeypatch.setattr(
            precision, "read", lambda _device, forced_precision=forced_precision: forced_precision
        )
        assert all(comparison.holds for comparison in attention.attention("cuda:0"))

    assert set(allowed) == {2.0**-12, 2.0**-3}


def test_nothing_of_this_probe_imports_a_compiler() -> None:
    """The import takes seconds in each child; `torch.use_deterministic_algorithms` would do it."""
    script = (
        "import sys; from probes.train_eval import probe; probe.observe('cpu');"
        "print('torch._inductor' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True
    )

    assert done.stdout.split() == ["False"]


def test_deterministic_algorithms_are_as_before_after_the_repeats() -> None:
    """They are on during the trainings, since torch promises equal bits only with them."""
    enabled: list[bool] = []
    train = learning._torch_training

    def recording(device: str, dtype: torch.dtype, steps: int) -> tuple[list[float], nn.Linear]:
        enabled.append(torch.are_deterministic_algorithms_enabled())
        return train(device, dtype, steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "_torch_training", recording)
        found = learning.repeats("cpu")

    assert all(comparison.holds for comparison in found)
    assert enabled == [True, True]
    assert not torch.are_deterministic_algorithms_enabled()
