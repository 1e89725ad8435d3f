"""The state dict of a scaler, and scalers that are disabled."""

from collections.abc import Iterator
from typing import Final

from probes.amp.growing import OPTIONS, iterations
from probes.amp.scalers import Counting, Parameters, scaler, started
from probes.contract import Comparison
from probes.kit.gradients import tensor
from probes.kit.trial import Custom, Trial, fact, refused

#: What a state dict holds, as documented.
_KEYS: Final = ("_growth_tracker", "backoff_factor", "growth_factor", "growth_interval", "scale")


def scaler_state(_device: str) -> Iterator[Trial]:
    """A state dict, before and behind the first loss; a scaler that is disabled."""
    yield Custom("state_dict", _resumed)
    yield Custom("load_state_dict", _refused)
    yield Custom("enabled=False", _disabled)


def _resumed(device: str) -> Iterator[Comparison]:
    """With one step left until the scale grows."""
    first = scaler(device, **OPTIONS)
    iterations(first, device, "x..")
    saved = first.state_dict()
    yield fact("state_dict (keys)", tuple(sorted(saved)), _KEYS)
    right = (2, 0.125, 4.0, 3, 8.0)
    yield fact("state_dict (values)", tuple(saved[key] for key in _KEYS), right)
    for name, other in (("new", scaler(device)), ("used", started(device))):
        other.load_state_dict(dict(saved))
        yield fact(f"load_state_dict ({name}, scale)", other.get_scale(), 8.0)
        found = iterations(other, device, ".x")
        yield fact(f"load_state_dict ({name}, scales)", list(found), [32.0, 4.0])
    yield fact("state_dict (unchanged)", first.get_scale(), 8.0)


def _refused(device: str) -> Iterator[Comparison]:
    """The state of a disabled scaler is empty, and refused."""
    empty = scaler(device, enabled=False).state_dict()
    yield fact("load_state_dict (of a disabled one)", empty, {})
    made = started(device)
    yield refused("load_state_dict (empty)", lambda: made.load_state_dict(empty), "RuntimeError")
    disabled = scaler(device, enabled=False)
    disabled.load_state_dict(started(device).state_dict())
    yield fact("load_state_dict (into a disabled one)", disabled.get_scale(), 1.0)


def _disabled(device: str) -> Iterator[Comparison]:
    """Losses and gradients stay, and each step is taken."""
    made, parameters = scaler(device, enabled=False), Parameters(device)
    optimizer = Counting(parameters.all)
    loss = tensor(1.0, device)
    yield fact("enabled=False (loss)", made.scale(loss) is loss, True)
    parameters.scaled(1.0)
    made.unscale_(optimizer)
    yield from parameters.gradients("enabled=False (")
    made.step(optimizer)
    made.update()
    yield from parameters.stepped("enabled=False (", 0.5)
    found = made.get_scale(), made.is_enabled(), optimizer.steps
    yield fact("enabled=False (scale)", found, (1.0, False, 1))
