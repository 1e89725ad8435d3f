"""Reads a settings file: a regular file of bounded size, in the core types of YAML.

Whatever stands in it, the answer comes soon and is either plain values or an error that names
file, line and key. A date is text, as in YAML 1.2.
"""

import math
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from validator.settings.values import DEEPEST, MOST_VALUES, SettingsError

#: Of a settings file: with every key set, and a comment on each, it has some 20 KiB.
MOST_BYTES: Final = 64 * 1024

#: Of a number; one of 64 bits has 19 digits.
_MOST_DIGITS: Final = 19

#: What the kernel makes up: reading it may wait for ever, or use it up (/proc/kmsg).
_MADE_UP: Final = ("/proc/", "/sys/")

_TAG: Final = "tag:yaml.org,2002:"
_NULL, _TEXT, _MERGE = f"{_TAG}null", f"{_TAG}str", f"{_TAG}merge"
_TAGS: Final = frozenset(f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null"))

_INTEGER: Final = re.compile(r"[-+]?(0b[01]+|0o?[0-7]+|0x[0-9a-fA-F]+|0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_CONTROL: Final = re.compile(r"[^\t\n -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class ConfigFile:
    """What a settings file says, and in which line each key of it stands."""

    name: str = ""
    content: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict)

    def where(self, path: Sequence[str]) -> str:
        """The file and the line of a key, or of the nearest one around it; empty if none is."""
        for length in range(len(path), 0, -1):
            line = self.lines.get(tuple(path[:length]))
            if line is not None:
                return f"{self.name}:{line}: "
        return ""


def read(path: Path) -> ConfigFile:
    """Read a settings file.

    Raises:
        SettingsError: it is no regular file, too large, no text, or no YAML of plain values.
    """
    name = str(path)
    text = _text(name, _bytes(path))
    try:
        node = _Composer(name, text).get_single_node()
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise SettingsError(
            f"{name}:{number}: holds the character {_code(error.character)}"
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f"{mark.line + 1}:"
        told = ", ".join(part for part in (error.context, error.problem) if part)
        raise SettingsError(f"{name}:{line} not valid YAML: {told}") from error
    if node is None or node.tag == _NULL:
        return ConfigFile(name)
    if not isinstance(node, yaml.MappingNode):
        raise SettingsError(f"{name}: the top level must be a mapping such as 'run:'")
    values = _Values(name)
    content = values.mapping(node, ())
    # A section whose every line is commented out is an empty one.
    content = {key: {} if value is None else value for key, value in content.items()}
    return ConfigFile(name, content, values.lines)


def _bytes(path: Path) -> bytes:
    try:
        if os.path.realpath(path).startswith(_MADE_UP):
            raise SettingsError(f"{path}: is made up by the kernel; settings are a regular file")
        _refuse_special(path, path.stat())  # a pipe or device is not even opened
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        with os.fdopen(os.open(path, flags), "rb", buffering=0) as stream:
            _refuse_special(path, os.fstat(stream.fileno()))
            content = b""
            while len(content) <= MOST_BYTES and (more := stream.read(MOST_BYTES + 1)):
                content += more
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # NUL, or what no name of a file can hold
        raise SettingsError(f"{str(path)!r} is no name of a file: {error}") from error
    if len(content) > MOST_BYTES:
        raise SettingsError(f"{path}: more than {MOST_BYTES} bytes are no settings")
    return content


def _refuse_special(path: Path, status: os.stat_result) -> None:
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    kind = kinds.get(stat.S_IFMT(status.st_mode))
    if kind is not None:
        raise SettingsError(f"{path}: is {kind}; settings are a regular file")


def _text(name: str, content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SettingsError(f"{name}: is UTF-16; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{name}:{line}: is no UTF-8; save it as UTF-8") from error


def _code(character: object) -> str:
    return f"U+{character if isinstance(character, int) else ord(str(character)):04X}"


class _Composer(yaml.SafeLoader):
    """Makes the nodes of a document; how deep they are and how many, aliases told out, is bound."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self._name = name
        self._depth = self._nodes = 0
        self._sizes: dict[int, int] = {}  # node -> how many nodes it is, aliases told out

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Make one node and those below it."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        where = f"{self._name}:{event.start_mark.line + 1}"
        is_alias = self.check_event(yaml.AliasEvent)
        before = self._nodes
        self._depth += 1
        self._nodes += 1
        if self._depth > DEEPEST:
            raise SettingsError(f"{where}: more than {DEEPEST} levels deep")
        node = super().compose_node(parent, index)
        if is_alias:
            if id(node) not in self._sizes:
                raise SettingsError(f"{where}: a value that holds itself")
            self._nodes = before + self._sizes[id(node)]
        else:
            self._sizes[id(node)] = self._nodes - before
        if self._nodes > MOST_VALUES:
            raise SettingsError(f"{where}: more than {MOST_VALUES} values, aliases told out")
        self._depth -= 1
        return node


_Composer.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag in _TAGS | {_MERGE}]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Values:
    """Turns nodes into plain values, and keeps in which line each key stands."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.lines: dict[tuple[str, ...], int] = {}

    def mapping(self, node: yaml.MappingNode, path: tuple[str, ...]) -> dict[str, Any]:
        """The values of a mapping, those that it merges first."""
        if node.tag != f"{_TAG}map":
            raise self._wrong(node, path, _tagged(node))
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                for one in self._merged(value_node, path):
                    merged = {**self.mapping(one, path), **merged}
                continue
            key = self._key(key_node, path)
            if key in own:
                raise self._wrong(key_node, path, f"key {key!r} stands twice")
            below = (*path, key)
            own[key] = self._value(value_node, below)
            self.lines[below] = key_node.start_mark.line + 1
        return {**merged, **own}

    def _merged(self, node: yaml.Node, path: tuple[str, ...]) -> Iterator[yaml.MappingNode]:
        for one in node.value if isinstance(node, yaml.SequenceNode) else (node,):
            if not isinstance(one, yaml.MappingNode):
                raise self._wrong(node, path, "'<<' merges mappings alone")
            yield one

    def _key(self, node: yaml.Node, path: tuple[str, ...]) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._wrong(node, path, "a key is no text")
        if node.tag != _TEXT:
            raise self._wrong(node, path, f"key {node.value[:80]} is no text; write it in quotes")
        return self._without_control(node, path)

    def _value(self, node: yaml.Node, path: tuple[str, ...]) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            if node.tag != f"{_TAG}seq":
                raise self._wrong(node, path, _tagged(node))
            return [self._value(one, (*path, str(place))) for place, one in enumerate(node.value)]
        if node.tag not in _TAGS | {_MERGE}:
            raise self._wrong(node, path, _tagged(node))
        text = self._without_control(node, path)
        if node.tag in {_TEXT, _MERGE}:
            return text
        try:
            return _scalar(node.tag.removeprefix(_TAG), text)
        except ValueError as error:
            raise self._wrong(node, path, str(error)) from error

    def _without_control(self, node: yaml.Node, path: tuple[str, ...]) -> str:
        text = str(node.value)
        if found := _CONTROL.search(text):
            raise self._wrong(node, path, f"holds the character {_code(found[0])}")
        return text

    def _wrong(self, node: yaml.Node, path: tuple[str, ...], text: str) -> SettingsError:
        key = f"{'.'.join(path)}: " if path else ""
        return SettingsError(f"{self._name}:{node.start_mark.line + 1}: {key}{text}")


def _tagged(node: yaml.Node) -> str:
    tag = node.tag.replace(_TAG, "!!")[:80]
    return f"the tag {tag} is none of settings; write the value without it"


def _scalar(kind: str, text: str) -> Any:
    """A value of the core types; text that only looks like one, such as 1:30, stays text."""
    if kind == "null":
        return None
    if kind == "bool":
        if text.lower() not in {"yes", "true", "on", "no", "false", "off"}:
            raise ValueError(f"{text[:80]!r} is neither true nor false")
        return text.lower() in {"yes", "true", "on"}
    number = text.replace("_", "")
    if len(number) > _MOST_DIGITS + 1 and (_INTEGER.fullmatch(number) or len(number) > 99):
        raise ValueError(f"a number of {len(number)} digits; {_MOST_DIGITS} are the most")
    if ":" in text:
        return text
    if kind == "int" and _INTEGER.fullmatch(number):
        octal = re.fullmatch(r"([-+]?)0([0-7]+)", number)
        return int(f"{octal[1]}{octal[2]}", 8) if octal else int(number, 0)
    if kind == "float" and number.lstrip("+-").lower() in {".inf", ".nan"}:
        return float(number.lower().replace(".", ""))
    if kind == "float" and _FLOAT.fullmatch(number):
        value = float(number)
        if math.isinf(value):
            raise ValueError(f"{text!r} is larger than any number of a computer")
        return value
    raise ValueError(f"{text[:80]!r} is no number")
