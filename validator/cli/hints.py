"""What a mistyped option or a word too many was probably meant to be."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from validator.nearest import closest

#: More options with the same beginning are no help.
_MOST_BEGUN: Final = 3


def of_an_option(unknown: str, context: Any, argv: Sequence[str]) -> str:
    """The complaint of an option that the command does not have, with what is near.

    `context` is the parser's, of the command; `argv` the whole command line.
    """
    root = context.find_root()
    path, short = context.command_path, not unknown.startswith("--")
    word = _as_typed(unknown, argv) if short else unknown
    told = f"unknown option {word}"
    if context is not root and word in _options(root.command):
        return f"{told}; did you mean {root.command_path} {word}?"
    commands = getattr(context.command, "commands", {})
    for name in argv:
        if name in commands and word in _options(commands[name]):
            return f"{told}; write it after the command: {path} {name} {word}"
    meant = " or ".join(_meant(word.lstrip("-"), context))
    return f"{told}; did you mean {meant}?" if meant else f"{told}; see {path} --help"


def of_an_extra(text: str, context: Any) -> str:
    """The complaint of words too many, where the first is the value of an option; else empty."""
    found = re.search(r"extra argument\S* \(([^\s)]+)", text)
    meant = "" if found is None else _value_of(found[1], context)
    return f"unexpected argument {found[1]!r}; did you mean {meant}?" if found and meant else ""


def _as_typed(unknown: str, argv: Sequence[str]) -> str:
    """What was typed where the parser read letters: `-probe` for `-p`."""
    words = (word.partition("=")[0] for word in argv if word[:1] == "-" != word[1:2])
    return next((word for word in words if unknown[1:] in word[1:] and len(word) > 3), unknown)


def _options(command: Any) -> list[str]:
    return [name for param in command.params for name in param.opts if name.startswith("-")]


def _meant(word: str, context: Any) -> Iterator[str]:
    """The option of nearly that name, the option with that value, or those that begin so."""
    known = [name[2:] for name in _options(context.command) if name.startswith("--")]
    begun = [name for name in known if name.startswith(word.lower())]
    if len(word) > 1 and (close := closest(word, known)) and close not in begun:
        yield f"--{close}"
    elif value := _value_of(word, context):
        yield value
    elif len(begun) <= _MOST_BEGUN:
        yield from (f"--{name}" for name in begun)


def _value_of(word: str, context: Any) -> str:
    """The first option of which a word is a value, as the shell would complete it, with it."""
    for param in context.command.params:
        names = [name for name in param.opts if name.startswith("--")]
        offered = param.shell_complete(context, word) if names and len(word) > 1 else ()
        if any(item.value == word and item.type == "plain" for item in offered):
            return f"{names[0]} {word}"
    return ""
