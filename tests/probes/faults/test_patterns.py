"""Each pattern spoils an output as named, in every type, or returns that it does not apply."""

import pytest
import torch

from probes.faults.inject.patterns import PATTERNS, pattern

#: Pattern -> the values 1, 2, 3, 4 after it.
SPOILED = {
    "zeros": [0.0, 0.0, 0.0, 0.0],
    "garbage": [7.0, 7.0, 7.0, 7.0],
    "swapped": [1.0, 2.0, 4.0, 3.0],
    "shifted": [4.0, 1.0, 2.0, 3.0],
    "flipped": [1.0, 2.0, 3.0, 0.0],
    "one_bit": [1.0, 2.0, 3.0, 4.0 + 2.0**-21],
    "one_a_warp": [1.0, 2.0, 3.0, 4.0 + 2.0**-21],
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_a_pattern_does(name: str) -> None:
    """To four numbers in a row."""
    out = torch.arange(1.0, 5.0)

    assert pattern(name)(out)
    assert out.tolist() == SPOILED[name]


def test_one_bad_lane() -> None:
    """One element in every 32, and the last among them."""
    out = torch.zeros(100)
    pattern("one_a_warp")(out)

    assert out.nonzero().flatten().tolist() == [3, 35, 67, 99]


def test_a_factor_and_a_nan() -> None:
    """Scaled everywhere; NaN in the last place alone."""
    scaled, spoiled = torch.ones(3), torch.ones(3)
    pattern("scaled", 1.5)(scaled)
    pattern("nan")(spoiled)

    assert scaled.tolist() == [1.5, 1.5, 1.5]
    assert spoiled.isnan().tolist() == [False, False, True]


def test_subnormals_are_flushed_and_zeros_keep_their_sign() -> None:
    """Numbers below the smallest normal one become zeros of their sign; others stay."""
    out = torch.tensor([1e-40, -1e-40, 1.0, -0.0])
    pattern("flushed")(out)

    assert out.tolist() == [0.0, 0.0, 1.0, 0.0]
    assert out.signbit().tolist() == [False, True, False, True]


def test_a_stale_answer_is_the_one_before() -> None:
    """The first result of a shape is right; each later one is the result of the call before."""
    spoil = pattern("stale")
    outs = [torch.full((2,), float(value)) for value in (1, 2, 3)]

    assert [spoil(out) for out in outs] == [False, True, True]
    assert [out[0].item() for out in outs] == [1.0, 1.0, 2.0]


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.complex64]
)
def test_every_type_is_spoiled_or_refused(name: str, dtype: torch.dtype) -> None:
    """An output changes exactly when the pattern returns that it applied."""
    out = torch.tensor([1, 0, 1, 1, 0, 0], dtype=dtype).reshape(2, 3).t()
    before = out.clone()
    applied = PATTERNS[name](out)
    with_nan = out.is_complex() or out.is_floating_point()
    same = torch.equal(out, before) and not (with_nan and bool(out.isnan().any()))

    assert same == (not applied)
