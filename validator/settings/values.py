"""What the value of a key may be: durations, numbers, words, paths, addresses."""

import os
import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from probes.catalog import BY_NAME
from validator.nearest import nearest

#: How deep values may be nested, and how many there may be: far more than there are keys.
DEEPEST: Final = 20
MOST_VALUES: Final = 10_000

#: Longest time that a setting may be: a clock of this machine holds it, and so does a person.
LONGEST_S: Final = 366 * 86400.0

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(ms|s|m|h|d))")
DURATIONS: Final = "write seconds (90) or 500ms, 30s, 10m, 1h30m"
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class SettingsError(Exception):
    """The configuration is wrong; the text names each key and what would be right."""


def shown(value: object) -> str:
    """A value that was given, in as many characters as a complaint needs."""
    return _SHOWN.repr(value)


_SHOWN: Final = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 120
_SHOWN.maxlevel = 3


def seconds(value: object) -> object:
    """Read a duration: seconds as a number, or text such as `90`, `500ms`, `10m`, `1h30m`."""
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no duration; {DURATIONS}")  # noqa: TRY004 - told as a value
    if not isinstance(value, str):
        return value
    text = value.strip()
    if len(text) > 64:
        raise ValueError(f"{shown(value)} is no duration; {DURATIONS}")
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{value!r} is no duration; {DURATIONS}")
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)


def _within_a_year(value: float) -> float:
    if value > LONGEST_S:
        raise ValueError(f"{value:g} s is longer than a year; write 366d or less")
    return value


def _seconds_schema(**least: float) -> dict[str, Any]:
    """A duration for editors: a number, or text with units."""
    text = r"\s*(\d+(\.\d+)?|(\d+(\.\d+)?(ms|s|m|h|d))+)\s*$"
    text = (r"^(?=.*[1-9])" if "exclusiveMinimum" in least else "^") + text
    number = {"type": "number", **least, "maximum": LONGEST_S}
    return {"anyOf": [number, {"type": "string", "maxLength": 64, "pattern": text}]}


Seconds = Annotated[
    float,
    BeforeValidator(seconds),
    Field(gt=0, allow_inf_nan=False),
    AfterValidator(_within_a_year),
    WithJsonSchema(_seconds_schema(exclusiveMinimum=0)),
]
SecondsOrZero = Annotated[
    float,
    BeforeValidator(seconds),
    Field(ge=0, allow_inf_nan=False),
    AfterValidator(_within_a_year),
    WithJsonSchema(_seconds_schema(minimum=0)),
]


def _no_truth_value(value: object) -> object:
    """YAML reads `on` and `yes` as true, which Python takes for 1."""
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no number; write one, such as 1")  # noqa: TRY004 - told as a value
    return value


NUMBER: Final = BeforeValidator(_no_truth_value)


def _several(value: object) -> object:
    """Read a list that the environment, or a lone value in the file, gives as text."""
    if isinstance(value, (str, int)):
        return tuple(part.strip() for part in str(value).split(",") if part.strip())
    return value


def _legible(value: str) -> str:
    """Text of one line, without what could steer a terminal or forge a line."""
    if not value.isprintable():
        raise ValueError("holds a character that cannot be printed")
    return value


#: Longer than a UUID of a MIG instance, and than a host's name with its port.
_Word = Annotated[str, Field(max_length=300), AfterValidator(_legible)]
_MOST_WORDS: Final = 128


def listed_schema(least: int) -> WithJsonSchema:
    """A list for editors; a lone word, or several with commas, is one too."""
    word = {"type": "string", "maxLength": 300}
    several = {"type": "array", "items": word, "minItems": least, "maxItems": _MOST_WORDS}
    return WithJsonSchema({"anyOf": [several, {"type": "string", "minLength": least}]})


Words = Annotated[tuple[_Word, ...], BeforeValidator(_several), Field(max_length=_MOST_WORDS)]


def usable_path(path: str, most_bytes: int = 4095) -> str:
    """A path that the kernel can take: absolute, no longer than it may be, in its characters.

    Raises:
        ValueError: it is none.
    """
    if not path.startswith("/"):
        raise ValueError(f"{shown(path)} is no absolute path")
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise ValueError(f"{shown(path)} holds a control character; write the path without it")
    try:
        parts = [len(part) for part in os.fsencode(path).split(b"/")]
    except UnicodeEncodeError as error:
        raise ValueError(f"{shown(path)} holds what no path can; write it as UTF-8") from error
    if sum(parts) + len(parts) - 1 > most_bytes:
        raise ValueError(f"{shown(path)} is too long; write a path of at most {most_bytes} bytes")
    if max(parts) > _MOST_NAME_BYTES:
        raise ValueError(
            f"{shown(path)} has a name of {max(parts)} bytes; {_MOST_NAME_BYTES} are the most"
        )
    return path


def absolute(value: object) -> object:
    """Refuse a path that no file can be put at, as it was written."""
    if isinstance(value, (str, Path)):
        usable_path(str(value))
    return value


#: For editors; whether it is null is not their concern.
PATH_SCHEMA: Final[dict[str, Any]] = {"pattern": "^/", "maxLength": 4095}

#: Of a file's name: 255 are the kernel's, and a draft beside it has a longer one.
_MOST_NAME_BYTES: Final = 200

#: How the name of a unix socket begins that is no path (unix(7), "abstract").
ABSTRACT: Final = "@"
#: Of a unix socket's path or name.
SOCKET_BYTES: Final = 107


def socket_address(name: str) -> str:
    """What the kernel is told of a unix socket: of `@name` a zero stands for the first letter."""
    return f"\0{name[1:]}" if name.startswith(ABSTRACT) else name


def host_port(address: str) -> tuple[str, int]:
    """Split `host:port`, `:port` or `[v6]:port`; an empty host is every interface."""
    matched = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]*)\]|([^:\[\]]*)):(\d{1,5})", address.strip())
    if matched is None or int(matched[3]) > 65535:
        raise ValueError(f"{shown(address)} is no address; write host:port, :8790 or [::1]:8790")
    return matched[1] or matched[2] or "", int(matched[3])


def _known_probe(name: str) -> str:
    if name not in BY_NAME:
        raise ValueError(f"unknown probe{nearest(name, BY_NAME)}")
    return name


ProbeName = Annotated[str, AfterValidator(_known_probe)]


def is_bounded(value: object) -> bool:
    """Whether values are nested no deeper, and are no more, than a file's may be."""
    level, count = [value], 0
    for _ in range(DEEPEST):
        count += len(level)
        level = [
            below
            for one in level
            if isinstance(one, (dict, list))
            for below in (one.values() if isinstance(one, dict) else one)
        ]
        if not level or count > MOST_VALUES:
            return count <= MOST_VALUES
    return False
