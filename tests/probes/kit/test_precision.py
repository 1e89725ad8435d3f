"""What may shorten float32 products is read from every switch, and put back exactly."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from probes.kit import precision
from probes.kit.precision import full_precision, read

BACKENDS: Any = torch.backends  # its new switches are not typed
NEW = hasattr(BACKENDS, "fp32_precision")
with_new_switches = pytest.mark.skipif(not NEW, reason="the new switches came with torch 2.9")


def switches() -> list[str]:
    """What every switch of matrix products says, old and new; an error's name where one raises."""
    owners: list[Any] = [BACKENDS, BACKENDS.cudnn, BACKENDS.mkldnn]
    owners += [BACKENDS.cuda.matmul, getattr(BACKENDS.mkldnn, "matmul", None)]
    questions: list[Callable[[], object]] = [
        torch.get_float32_matmul_precision,
        lambda: BACKENDS.cuda.matmul.allow_tf32,
        lambda: BACKENDS.cudnn.allow_tf32,
    ]
    new = [str(getattr(owner, "fp32_precision", "absent")) for owner in owners]
    return new + [answer(question) for question in questions]


def answer(question: Callable[[], object]) -> str:
    """What torch says, or the name of what it raises."""
    try:
        return str(question())
    except RuntimeError as error:
        return type(error).__name__


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """No variable of this machine's, and every switch as it was afterwards."""
    before = switches()
    owners = (BACKENDS, BACKENDS.cuda.matmul, BACKENDS.mkldnn.matmul) if NEW else ()
    values = [owner.fp32_precision for owner in owners]
    with pytest.MonkeyPatch.context() as patch:
        for name in precision.VARIABLES:
            patch.delenv(name, raising=False)
        yield
    torch.set_float32_matmul_precision("highest")
    for owner, value in zip(owners, values, strict=True):
        owner.fp32_precision = value
    assert switches() == before


@pytest.mark.parametrize("device", ["cpu", "cuda:0", "xpu:0", "mps"])
def test_torch_as_it_comes_keeps_products_whole(device: str) -> None:
    """Convolutions are TF32 by default on CUDA; of other back-ends it is not known."""
    seen = read(device)

    assert (seen.matmul, seen.matmul_may_shorten, seen.forced_by) == ("highest", False, "")
    assert seen.convolution_may_shorten is (device != "cpu")


@pytest.mark.parametrize("setting", ["high", "medium"])
@pytest.mark.parametrize("device", ["cpu", "cuda:0", "xpu:0"])
def test_the_old_switch(setting: str, device: str) -> None:
    """The answer of torch itself counts."""
    torch.set_float32_matmul_precision(setting)

    assert (read(device).matmul, read(device).matmul_may_shorten) == (setting, True)


def test_the_old_switch_where_there_is_no_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before torch 2.9 it decides alone."""
    monkeypatch.setattr(precision, "_new_setting", lambda *_: "cannot be told")
    assert not read("cuda:0").matmul_may_shorten
    torch.set_float32_matmul_precision("high")

    assert read("cuda:0").matmul_may_shorten
    assert read("cpu").convolution_may_shorten


@with_new_switches
@pytest.mark.parametrize("owner", ["torch.backends", "BACKENDS.cuda.matmul"])
def test_the_new_switches(owner: str) -> None:
    """The old getter raises then, which means that products may be short."""
    place = BACKENDS if owner == "torch.backends" else BACKENDS.cuda.matmul
    place.fp32_precision = "tf32"

    assert "mix of the legacy and new" in read("cuda:0").matmul
    assert read("cuda:0").matmul_may_shorten


@with_new_switches
def test_the_new_switch_of_the_cpu_alone() -> None:
    """bfloat16 allowed to oneDNN allows nothing on a GPU, unless the old getter hides it."""
    BACKENDS.mkldnn.matmul.fp32_precision = "bf16"

    assert read("cpu").matmul_may_shorten


@with_new_switches
def test_a_convolution_made_whole_by_the_new_switch() -> None:
    """Then a short one is a fault again."""
    assert read("cuda:0").convolution_may_shorten
    BACKENDS.cudnn.conv.fp32_precision = "ieee"
    try:
        assert not read("cuda:0").convolution_may_shorten
    finally:
        BACKENDS.cudnn.conv.fp32_precision = "tf32"


@pytest.mark.parametrize(
    ("name", "value", "devices"),
    [
        ("NVIDIA_TF32_OVERRIDE", "1", {"cuda:0"}),
        ("NVIDIA_TF32_OVERRIDE", "0", set()),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1", set()),
        ("DNNL_DEFAULT_FPMATH_MODE", "BF16", {"cpu", "xpu:0"}),
        ("ONEDNN_DEFAULT_FPMATH_MODE", "any", {"cpu", "xpu:0"}),
        ("ONEDNN_DEFAULT_FPMATH_MODE", "strict", set()),
        ("HIPBLASLT_ALLOW_TF32", "1", set()),
    ],
)
def test_variables_beyond_torch(
    name: str, value: str, devices: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each counts where its library computes, unless its value leaves products whole."""
    monkeypatch.setenv(name, value)
    seen = {device: read(device) for device in ("cpu", "cuda:0", "xpu:0", "mps")}

    assert {device for device, each in seen.items() if each.matmul_may_shorten} == devices
    assert {device for device, each in seen.items() if each.forced_by} == devices
    assert all(each.variables == {name: value} for each in seen.values())
    assert all(seen[device].convolution_may_shorten for device in devices)


def test_rocm_has_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVIDIA's says nothing there."""
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    assert not read("cuda:0").forced_by
    monkeypatch.setenv("HIPBLASLT_ALLOW_TF32", "1")

    assert read("cuda:0").forced_by == "HIPBLASLT_ALLOW_TF32=1"


def test_switches_that_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new one decides alone; without any, it cannot be told, and a short product may be."""
    for name in ("get_float32_matmul_precision", "set_float32_matmul_precision"):
        monkeypatch.delattr(torch, name)

    assert read("cuda:0").matmul == "cannot be told"
    assert read("cuda:0").matmul_may_shorten is not NEW
    if NEW:
        BACKENDS.cuda.matmul.fp32_precision = "tf32"
        assert read("cuda:0").matmul_may_shorten
        with full_precision():
            assert BACKENDS.cuda.matmul.fp32_precision == "ieee"
        assert BACKENDS.cuda.matmul.fp32_precision == "tf32"


def settings() -> list[str]:
    """Statements that a user or a plug-in may have run."""
    old = [f"torch.set_float32_matmul_precision('{each}')" for each in ("high", "medium")]
    old.append("BACKENDS.cuda.matmul.allow_tf32 = True")
    places = ("backends", "backends.cuda.matmul", "backends.mkldnn.matmul")
    new = [f"torch.{place}.fp32_precision = '{each}'" for place in places for each in ("tf32",)]
    mixed = [f"{old[1]}; {new[1]}", f"{new[0]}; {new[1]}", f"{new[0]}; {new[2]}"]
    return ["pass", *old, *(new + mixed if NEW else ())]


@pytest.mark.parametrize("setting", settings())
def test_full_precision_is_full_and_restores_what_was_set(setting: str) -> None:
    """Each switch of its own: a parent changed later is followed as before."""
    exec(setting)  # noqa: S102 - statements of the table above
    before = switches()

    with full_precision():
        assert torch.get_float32_matmul_precision() == "highest"
        assert not read("cuda:0").matmul_may_shorten
        assert not read("cpu").matmul_may_shorten

    assert switches() == before
    if NEW:
        BACKENDS.fp32_precision = "ieee"
        now = BACKENDS.cuda.matmul.fp32_precision
        own = "cuda.matmul" in setting or "set_float32" in setting
        assert now == ("tf32" if own else "ieee")


def test_full_precision_is_restored_when_something_raises() -> None:
    """As a probe may inside it."""
    torch.set_float32_matmul_precision("medium")
    before = switches()

    with pytest.raises(RuntimeError, match="sick"), full_precision():
        raise RuntimeError("sick")

    assert switches() == before
