"""What a burn counted, as text: a line a device, a line a probe that failed in some round."""

from collections.abc import Iterator, Mapping
from typing import Final

from rich.console import Console
from rich.text import Text

from validator.burn import Burn, BurnCount, BurnDevice, Range
from validator.render.console import clean, table

#: Field of a device, and the unit that its range is shown in.
_UNITS: Final[Mapping[str, str]] = {
    "temperature_c": "°C",
    "memory_temperature_c": "°C memory",
    "power_w": "W",
    "clock_mhz": "MHz",
}
_MINUTE_S: Final = 60.0


def ranges(seen: Mapping[str, Range]) -> str:
    """Ranges with their units: `34-71 °C, 80-698 W`."""
    known = [(seen[name], unit) for name, unit in _UNITS.items() if name in seen]
    return ", ".join(f"{_range(each)} {unit}" for each, unit in known)


def _range(seen: Range) -> str:
    least, most = f"{seen.least:.0f}", f"{seen.most:.0f}"
    return least if least == most else f"{least}-{most}"


def _minutes(seconds: float) -> str:
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.1f} s"
    return f"{seconds / _MINUTE_S:.1f} min"


def lines(burn: Burn, console: Console) -> Iterator[Text]:
    """The burn in short."""
    rounds = f"{burn.rounds} round{'s' if burn.rounds != 1 else ''}"
    stopped = f", {clean(burn.stopped_by)}" if burn.stopped_by else ""
    yield Text(f"{rounds} of {_minutes(burn.wanted_s)} wanted{stopped}")
    heads = ("device", "tested", "runs", "failed", "board")
    yield from table(console, heads, [_row(device) for device in burn.devices])
    for count in burn.counts:
        if count.failures or count.errors:
            yield Text(_worst(count))


def _row(device: BurnDevice) -> tuple[str, ...]:
    failed = str(device.failures)
    if device.failures and device.failures_per_hour is not None:
        failed += f" ({device.failures_per_hour:.0f} an hour)"
    return (
        device.device,
        _minutes(device.tested_s),
        str(device.runs),
        failed,
        "; ".join(_board(device)),
    )


def _board(device: BurnDevice) -> Iterator[str]:
    """What a board said: ranges, counters that rose, error lines."""
    seen = {name: value for name in _UNITS if (value := getattr(device, name)) is not None}
    if seen:
        yield ranges(seen)
    rose = {name: by for name, by in device.counters.items() if by}
    for name, by in rose.items():
        yield f"{name} +{by:g}"
    if device.counters and not rose:
        yield "no counter rose"
    if device.xids:
        yield f"{device.xids} Xid"


def _worst(count: BurnCount) -> str:
    bad = f"{count.failures} of {count.runs} runs failed"
    if count.errors:
        bad += f", {count.errors} told nothing"
    at = f" at {count.worst_at:%H:%M:%S %Z}" if count.worst_at else ""
    told = f"the {count.worst} below is of round {count.worst_round}{at}"
    return f"{count.probe} on {count.device}: {bad}; {told}"
