"""Reads the settings from file, environment and flags, and tells what is wrong where."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import ValidationError

from validator.in_time import ANSWER_S, in_time
from validator.nearest import closest, nearest
from validator.settings import configfile, limits
from validator.settings.configfile import ConfigFile
from validator.settings.environment import DEFAULTS_PREFIX, ENV_PREFIX
from validator.settings.model import FILE_KEY, Settings
from validator.settings.values import DEEPEST, SettingsError, shown

#: The path of a key that is wrong, and the text to it.
Complaint = tuple[list[str], str]

#: What else is wrong with settings whose values are right each by itself.
Further = Callable[[Settings], Iterable[Complaint]]

#: How many are told at once: a file of thousands is no settings file.
_MOST_COMPLAINTS: Final = 20
_LONGEST_COMPLAINT: Final = 1000


def load(
    config_file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    further: Further = lambda _: (),
) -> Settings:
    """Read the settings from file, environment and flags.

    Args:
        config_file: a YAML file, or None.
        flags: nested values from the command line, such as `{"run": {"profile": "deep"}}`.
        further: what else is wrong with settings whose values are right each by itself.

    Raises:
        SettingsError: naming every key that is wrong, and the nearest known one.
    """
    file = configfile.read(config_file) if config_file is not None else ConfigFile()
    given = flags or {}
    _refuse_unknown_environment()
    # pydantic-settings would take `Run` for `run`, and then one of the two.
    refused = [_unknown([key], file.where([key])) for key in file.content if not _is_section(key)]
    known = {key: value for key, value in file.content.items() if _is_section(key)}
    for key, value in known.items():
        hollow = [*_without_keys([key], value)]
        refused += [f"{file.where(path)}{text}" for path, text in hollow]
        known[key] = _without(value, [path for path, _ in hollow])
    try:
        settings = Settings(**{**given, FILE_KEY: known})
    except ValidationError as error:
        raise _refusal(chain(refused, _complaints(error, given, file))) from error
    if refused:
        raise _refusal(iter(refused))
    wrong = [*limits.of_all(settings.probes)] or [*further(settings)]
    if wrong:
        raise _refusal(_placed(path, text, given, file) for path, text in wrong)
    return settings


def _is_section(key: str) -> bool:
    return key in Settings.model_fields


def load_in_time(
    config_file: Path | None, flags: Mapping[str, Any], further: Further = lambda _: ()
) -> Settings:
    """The same, for a start: a file system that does not answer holds it up for 10 s at most.

    Raises:
        SettingsError: as `load`, or there is no answer.
    """
    try:
        return in_time(lambda: load(config_file, flags, further), ANSWER_S)
    except TimeoutError as error:
        raise SettingsError(f"{config_file}: cannot be read: {error}") from error


def _refusal(complaints: Iterator[str]) -> SettingsError:
    told = [
        text if len(text) <= _LONGEST_COMPLAINT else f"{text[:_LONGEST_COMPLAINT]}..."
        for text in islice(complaints, _MOST_COMPLAINTS)
    ]
    if next(complaints, None) is not None:
        told.append("and more")
    return SettingsError("; ".join(told))


#: Sections of sections, by the names of probes.
_NAMED: Final = frozenset({"probes", "schedule"})


def _refuse_unknown_environment() -> None:
    """A misspelt variable would be ignored in silence otherwise."""
    for variable, value in os.environ.items():
        is_default = variable.upper().startswith(DEFAULTS_PREFIX)
        prefix = DEFAULTS_PREFIX if is_default else ENV_PREFIX
        rest = variable[len(prefix) :]
        # The settings heed a variable however its letters are written.
        if not variable.upper().startswith(ENV_PREFIX) or _SERVICE_LINK.fullmatch(rest):
            continue
        if len(rest) > _LONGEST_KEY or rest.count("__") >= DEEPEST:
            raise SettingsError(f"environment variable {variable[:80]}...: no key is that long")
        if not rest.isascii() or not rest.isprintable():
            raise SettingsError(f"environment variable {variable!a}: unknown key")
        section = rest.split("__")[0].lower()
        if section not in Settings.model_fields:
            close = closest(section, Settings.model_fields)
            hint = f"; did you mean {prefix}{close.upper()}__...?" if close else ""
            hint = hint or nearest(section, Settings.model_fields)
            raise SettingsError(f"environment variable {variable}: unknown key {section!r}{hint}")
        for _, text in _without_keys(rest.lower().split("__"), _decoded(value)):
            raise SettingsError(f"environment variable {variable}: {text}")


def _without_keys(path: list[str], value: Any) -> Iterator[Complaint]:
    """Sections without keys, which would vanish in silence below those of a stronger source.

    Args:
        path: of a section, or of what is in one.
        value: what stands there.
    """
    depth = 1 + (path[0] in _NAMED)  # of the sections that are not named by a user
    if len(path) > depth:
        return
    if not isinstance(value, Mapping):
        yield path, f"{_key(path)}: must be a mapping of keys (got {shown(value)})"
    elif len(path) < depth:
        for name, below in value.items():
            yield from _without_keys([*path, str(name)], below)


def _complaints(
    error: ValidationError, flags: Mapping[str, Any], file: ConfigFile
) -> Iterator[str]:
    for item in error.errors():
        path = [str(part) for part in item["loc"]]
        if path[-1:] == ["[key]"]:  # of a mapping whose key is wrong, and stands before this
            path.pop()
        key = _named(path, flags)
        where = _origin(path, flags, file)
        if item["type"] == "extra_forbidden":
            yield _unknown(path, where)
        elif item["type"] == "literal_error":
            choices = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            close = closest(str(item["input"]), choices)
            hint = f"; did you mean {close!r}?" if close else ""
            yield f"{where}{key}: {shown(item['input'])} is not one of {', '.join(choices)}{hint}"
        elif item["type"] == "value_error":  # ours; it holds the value
            yield f"{where}{key}: {item['msg'].removeprefix('Value error, ')}"
        elif item["type"] == "model_type":
            yield f"{where}{key}: must be a mapping of keys (got {shown(item['input'])})"
        else:
            yield f"{where}{key}: {item['msg']} (got {shown(item['input'])})"


def _unknown(path: list[str], where: str) -> str:
    section = "".join(f"{part}." for part in path[:-1])
    hint = nearest(path[-1], _keys_at(path[:-1]), section)
    return f"{where}unknown key {_key(path)!r}{hint}"


def _without(section: Any, paths: list[list[str]]) -> Mapping[str, Any]:
    """A section without what was refused in it, so that all else is looked at."""
    if not isinstance(section, Mapping):
        return {}
    names = {path[1] for path in paths}
    return {name: value for name, value in section.items() if name not in names}


#: The flags that give a key.
_FLAGS: Final[Mapping[tuple[str, ...], str]] = {
    ("run", "profile"): "--profile",
    ("run", "timeout"): "--timeout",
    ("run", "devices"): "--device",
    ("log", "level"): "--log.level",
    ("log", "format"): "--log.format",
    ("web", "listen_address"): "--web.listen-address",
}


def _named(path: list[str], flags: Mapping[str, Any]) -> str:
    """A key as it was given: the flag on the command line, or else the key."""
    flag = _FLAGS.get((*path, "")[:2]) if _holds(flags, path) else None
    return flag or _key(path)


def _placed(path: list[str], text: str, flags: Mapping[str, Any], file: ConfigFile) -> str:
    """A complaint that begins with its key, told where the value was given."""
    if text.startswith(key := _key(path)):
        text = _named(path, flags) + text.removeprefix(key)
    return _origin(path, flags, file) + text


def _key(path: list[str]) -> str:
    """A key as it is written; what stands for one may be of any length."""
    key = ".".join(path)
    return key if len(key) <= _LONGEST_KEY else f"{key[:_LONGEST_KEY]}..."


def _origin(path: list[str], flags: Mapping[str, Any], file: ConfigFile) -> str:
    """Where a value comes from, by precedence: the command line, a variable, or the file."""
    if _holds(flags, path):
        return ""
    in_file = file.where(path) if _holds(file.content, path) else ""
    return (
        _variable_of(ENV_PREFIX, path)
        or in_file
        or _variable_of(DEFAULTS_PREFIX, path)
        or file.where(path)  # the section around what is missing
    )


def _variable_of(prefix: str, path: list[str]) -> str:
    """The variable with that prefix which gives a value; empty if none does."""
    wanted = f"{prefix}{'__'.join(path)}__".upper()
    for variable, value in os.environ.items():
        name = f"{variable.upper()}__"
        below = path[name.removeprefix(prefix).count("__") :]
        # A variable may hold the key alone, keys below it, or as JSON the section around it.
        around = name.startswith(prefix) and wanted.startswith(name)
        if name.startswith(wanted) or (around and _holds(_decoded(value), below)):
            return f"environment variable {variable}: "
    return ""


def _decoded(value: str) -> Any:
    """The JSON of a variable, or its text."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _holds(tree: Any, path: list[str]) -> bool:
    """Whether a key, or the value around what stands for one, is in a tree."""
    for part in path:
        if not isinstance(tree, Mapping):
            return True
        if part not in tree:
            return False
        tree = tree[part]
    return bool(path)


def _keys_at(path: list[str]) -> list[str]:
    """The keys that a section knows; `schedule.autograd` is looked up by its value's type."""
    model: Any = Settings
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        if field is not None:
            arguments = get_args(field.annotation)
            model = arguments[1] if arguments else field.annotation
    return list(getattr(model, "model_fields", {}))


_LONGEST_KEY: Final = 200

#: What Kubernetes puts into every pod for a service whose name starts with `gpu-validator`.
_SERVICE_LINK = re.compile(
    r"(\w+_)?SERVICE_(HOST|PORT(_\w+)?)|(\w+_)?PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?"
)
