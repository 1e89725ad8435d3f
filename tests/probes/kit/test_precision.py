"""The settings for float32 products are read from every switch, and restored exactly."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from probes.kit import precision
from probes.kit.precision import full_precision, read

BACKENDS: Any = torch.backends  # untyped: the new switches are not in torch's stubs
NEW = hasattr(BACKENDS, "fp32_precision")
with_new_switches = pytest.mark.skipif(not NEW, reason="the new switches came with torch 2.9")


def switches() -> list[str]:
    """The values of all switches for matrix products; the name of the error if one raises."""
    owners: list[Any] = [BACKENDS, BACKENDS.cudnn, BACKENDS.mkldnn]
    owners += [BACKENDS.cuda.matmul, getattr(BACKENDS.mkldnn, "matmul", None)]
    readers: list[Callable[[], object]] = [
        torch.get_float32_matmul_precision,
        lambda: BACKENDS.cuda.matmul.allow_tf32,
        lambda: BACKENDS.cudnn.allow_tf32,
    ]
    new = [str(getattr(owner, "fp32_precision", "absent")) for owner in owners]
    return new + [answer(read_switch) for read_switch in readers]


def answer(read_switch: Callable[[], object]) -> str:
    """The switch's value, or the name of the error that it raises."""
    try:
        return str(read_switch())
    except RuntimeError as error:
        return type(error).__name__


@pytest.fixture(autouse=True)
def restore_switches() -> Iterator[None]:
    """Remove this machine's variables, and restore every switch after the test."""
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
def test_by_default_products_have_full_precision(device: str) -> None:
    """Convolutions may use TF32 by default on CUDA; on other back-ends it is unknown."""
    setting = read(device)

    assert (setting.matmul, setting.matmul_may_shorten, setting.forced_by) == (
        "highest",
        False,
        "",
    )
    assert setting.convolution_may_shorten is (device != "cpu")


@pytest.mark.parametrize("setting", ["high", "medium"])
@pytest.mark.parametrize("device", ["cpu", "cuda:0", "xpu:0"])
def test_the_old_switch(setting: str, device: str) -> None:
    """The value of torch's switch counts."""
    torch.set_float32_matmul_precision(setting)

    assert (read(device).matmul, read(device).matmul_may_shorten) == (setting, True)


def test_the_old_switch_where_there_is_no_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before torch 2.9 only the old switch counts."""
    monkeypatch.setattr(precision, "_new_setting", lambda *_: "cannot be told")
    assert not read("cuda:0").matmul_may_shorten
    torch.set_float32_matmul_precision("high")

    assert read("cuda:0").matmul_may_shorten
    assert read("cpu").convolution_may_shorten


@with_new_switches
@pytest.mark.parametrize("owner", ["torch.backends", "BACKENDS.cuda.matmul"])
def test_the_new_switches(owner: str) -> None:
    """The old getter then raises, which means that products may be shortened."""
    place = BACKENDS if owner == "torch.backends" else BACKENDS.cuda.matmul
    place.fp32_precision = "tf32"

    assert "mix of the legacy and new" in read("cuda:0").matmul
    assert read("cuda:0").matmul_may_shorten


@with_new_switches
def test_the_new_switch_of_the_cpu_alone() -> None:
    """The switch of oneDNN counts on the CPU."""
    BACKENDS.mkldnn.matmul.fp32_precision = "bf16"

    assert read("cpu").matmul_may_shorten


@with_new_switches
def test_full_precision_convolutions_by_the_new_switch() -> None:
    """Then convolutions may not be shortened."""
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
    """Each counts for its library's back-ends, unless its value keeps full precision."""
    monkeypatch.setenv(name, value)
    setting_of = {device: read(device) for device in ("cpu", "cuda:0", "xpu:0", "mps")}

    assert {device for device, each in setting_of.items() if each.matmul_may_shorten} == devices
    assert {device for device, each in setting_of.items() if each.forced_by} == devices
    assert all(each.variables == {name: value} for each in setting_of.values())
    assert all(setting_of[device].convolution_may_shorten for device in devices)


def test_rocm_has_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVIDIA's variable does not count on ROCm."""
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    assert not read("cuda:0").forced_by
    monkeypatch.setenv("HIPBLASLT_ALLOW_TF32", "1")

    assert read("cuda:0").forced_by == "HIPBLASLT_ALLOW_TF32=1"


def test_removed_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the new switch counts; without any, products may be shortened."""
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
    """Each switch separately: it still follows a parent that changes later, as before."""
    exec(setting)  # noqa: S102 - statements of the table above
    before = switches()

    with full_precision():
        assert torch.get_float32_matmul_precision() == "highest"
        assert not read("cuda:0").matmul_may_shorten
        assert not read("cpu").matmul_may_shorten

    assert switches() == before
    if NEW:
        BACKENDS.fp32_precision = "ieee"
        current = BACKENDS.cuda.matmul.fp32_precision
        has_own_value = "cuda.matmul" in setting or "set_float32" in setting
        assert current == ("tf32" if has_own_value else "ieee")


def test_full_precision_is_restored_when_something_raises() -> None:
    """Also after an error inside the block."""
    torch.set_float32_matmul_precision("medium")
    before = switches()

    with pytest.raises(RuntimeError, match="sick"), full_precision():
        raise RuntimeError("sick")

    assert switches() == before
