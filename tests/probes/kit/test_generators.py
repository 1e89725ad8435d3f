"""The states of generators are kept and restored."""

import types

import pytest
import torch

from probes.kit.generators import random_state_kept, states


def test_what_is_drawn_inside_is_not_missed_outside() -> None:
    """Also where it raises."""
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="on purpose"), random_state_kept("cpu"):
        torch.rand(3)
        raise ValueError("on purpose")

    assert torch.equal(torch.get_rng_state(), before)
    assert len(states("cpu")) == 1


@pytest.mark.parametrize(("kind", "asked"), [("xpu", 1), ("mps", 0)])
def test_a_device_with_its_own_generator(
    kind: str, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked by device, but for the one that has a single device."""
    state, calls = torch.zeros(4), []
    module = types.SimpleNamespace(
        get_rng_state=lambda *where: calls.append(("get", len(where))) or state.clone(),
        set_rng_state=lambda _state, *where: calls.append(("set", len(where))),
    )
    monkeypatch.setattr(torch, kind, module)

    with random_state_kept(f"{kind}:0" if asked else kind):
        pass

    assert calls == [("get", asked), ("set", asked)]
