"""Reads the settings from file, environment and flags, and tells what is wrong where."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args

import yaml
from pydantic import (
    ValidationError,
)

from validator import limits
from validator.nearest import closest, nearest
from validator.settings import ENV_PREFIX, FILE_KEY, Settings, SettingsError

#: Of a settings file; what is far longer is a device or a wrong path, and would fill the memory.
_MOST_CHARACTERS: Final = 1 << 20


def load(config_file: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings from file, environment and flags.

    Args:
        config_file: a YAML file, or None.
        flags: nested values from the command line, such as `{"run": {"profile": "deep"}}`.

    Raises:
        SettingsError: naming every key that is wrong, and the nearest known one.
    """
    content = _read(config_file) if config_file is not None else {}
    given = flags or {}
    _refuse_unknown_environment()
    try:
        settings = Settings(**{**given, FILE_KEY: content})
    except ValidationError as error:
        complaints = _complaints(error, given, content, str(config_file))
        raise SettingsError("; ".join(complaints)) from error
    wrong = [
        _origin(path, given, content, str(config_file)) + text
        for name, probe in settings.probes.items()
        for path, text in limits.complaints(name, probe.limits)
    ]
    if wrong:
        raise SettingsError("; ".join(wrong))
    return settings


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not a value lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - the library's signature
        merge = "tag:yaml.org,2002:merge"  # `<<: *anchor`, which may stand for any keys
        scalars = [key for key, _ in node.value if key.tag != merge]
        keys = [self.construct_object(key, deep=True) for key in scalars]
        for place, key in enumerate(keys):
            if not isinstance(key, str) or key in keys[:place]:
                problem = "stands twice" if isinstance(key, str) else "is no text"
                raise yaml.YAMLError(f"key {key!r} {problem}, line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as stream:
            text = stream.read(_MOST_CHARACTERS + 1)
        if len(text) > _MOST_CHARACTERS:
            raise SettingsError(f"{path}: more than {_MOST_CHARACTERS} characters are no settings")
        content = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: the top level must be a mapping such as 'run:'")
    # A section whose every line is commented out is an empty one.
    return {key: {} if value is None else value for key, value in content.items()}


def _refuse_unknown_environment() -> None:
    """A misspelt variable would be ignored in silence otherwise."""
    for variable in os.environ:
        rest = variable[len(ENV_PREFIX) :]
        if not variable.startswith(ENV_PREFIX) or _SERVICE_LINK.fullmatch(rest):
            continue
        section = rest.split("__")[0].lower()
        if section not in Settings.model_fields:
            close = closest(section, Settings.model_fields, cutoff=0)
            raise SettingsError(
                f"environment variable {variable}: unknown key {section!r}; "
                f"did you mean {ENV_PREFIX}{(close or 'run').upper()}__...?"
            )


def _complaints(
    error: ValidationError, flags: Mapping[str, Any], file: Mapping[str, Any], file_name: str
) -> Iterator[str]:
    for item in error.errors():
        path = [str(part) for part in item["loc"]]
        if path[-1:] == ["[key]"]:  # of a mapping whose key is wrong, and stands before this
            path.pop()
        key = ".".join(path)
        where = _origin(path, flags, file, file_name)
        if item["type"] == "extra_forbidden":
            section = "".join(f"{part}." for part in path[:-1])
            hint = nearest(path[-1], _keys_at(path[:-1]), section)
            yield f"{where}unknown key {key!r}{hint}"
        elif item["type"] == "literal_error":
            choices = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            close = closest(str(item["input"]), choices)
            hint = f"; did you mean {close!r}?" if close else ""
            yield f"{where}{key}: {item['input']!r} is not one of {', '.join(choices)}{hint}"
        elif item["type"] == "value_error":  # ours; it holds the value
            yield f"{where}{key}: {item['msg'].removeprefix('Value error, ')}"
        elif item["type"] == "model_type":
            yield f"{where}{key}: must be a mapping of keys (got {item['input']!r})"
        else:
            yield f"{where}{key}: {item['msg']} (got {item['input']!r})"


def _origin(
    path: list[str], flags: Mapping[str, Any], file: Mapping[str, Any], file_name: str
) -> str:
    """Where a value comes from, by precedence: the command line, a variable, or the file."""
    if _holds(flags, path):
        return ""
    wanted = f"{ENV_PREFIX}{'__'.join(path)}__".upper()
    for variable in os.environ:
        name = f"{variable.upper()}__"
        # A variable may hold the key alone, keys below it, or as JSON the section around it.
        if name.startswith(wanted) or (name.startswith(ENV_PREFIX) and wanted.startswith(name)):
            return f"environment variable {variable}: "
    return f"{file_name}: " if _holds(file, path[:1]) else ""


def _holds(tree: Any, path: list[str]) -> bool:
    for part in path:
        if not isinstance(tree, Mapping) or part not in tree:
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


#: What Kubernetes puts into every pod for a service whose name starts with `gpu-validator`.
_SERVICE_LINK = re.compile(
    r"(\w+_)?SERVICE_(HOST|PORT(_\w+)?)|(\w+_)?PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?"
)
