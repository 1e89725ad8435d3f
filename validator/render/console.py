"""Text for people: what their terminal can show, and nothing that could steer it."""

import io
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any, Final

from rich.console import Console, RenderableType
from rich.text import Text

from probes.contract import Status

#: Symbol, its ASCII form and style of each status. The word stands beside it: colour is never all.
MARKS: Final[Mapping[Status, tuple[str, str, str]]] = {
    "pass": ("✓", "+", "green"),
    "warn": ("!", "!", "yellow"),
    "fail": ("✗", "x", "bold red"),
    "error": ("?", "?", "bold magenta"),
    "skip": ("–", "-", "dim"),  # noqa: RUF001 - a dash of the symbols' width
}

#: What our own text uses beyond ASCII.
_ASCII: Final = str.maketrans(
    {symbol: ascii_ for symbol, ascii_, _ in MARKS.values()} | {"…": "...", "─": "-", "·": "-"}
)


#: Fewer columns say nothing of the last cell of a row.
_LEAST_LAST: Final = 16


def console_for(stream: IO[str], *, width: int | None = None) -> Console:
    """A console that adds nothing of its own: no highlighting, markup or emoji."""
    return Console(file=stream, highlight=False, markup=False, emoji=False, width=width)


def plain_console() -> Console:
    """A console for files: no colour whatever the environment says, and no wrapping."""
    console = console_for(io.StringIO(), width=100)
    console.no_color = True
    console._color_system = None
    return console


def text_of(console: Console, *parts: RenderableType) -> str:
    """The parts, as the console's stream can take them."""
    with console.capture() as capture:
        for part in parts:
            # Prose is wrapped for a terminal only: in a pipe a line stays whole, for grep.
            console.print(part, soft_wrap=isinstance(part, Text) and not console.is_terminal)
    lines = (line.rstrip() for line in capture.get().split("\n"))
    return encodable("\n".join(lines), console.encoding)


def encodable(text: str, encoding: str) -> str:
    """The text with what the encoding lacks in ASCII or as escapes."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return text.translate(_ASCII).encode("ascii", "backslashreplace").decode()
    return text


def clean(text: str) -> str:
    """Text from outside without the control characters that could steer a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "·" for c in text).expandtabs(4)


def emit(text: str) -> None:
    """Write to stdout, at once, so that an error is raised here and not at the end."""
    sys.stdout.write(encodable(text, sys.stdout.encoding))
    sys.stdout.flush()


def table(
    console: Console, heads: Sequence[str], rows: Sequence[Sequence[str | Text]]
) -> list[Text]:
    """Rows of a table; on a narrow terminal the last column is cut, never a name.

    Where the others leave no room for it, it stands below them. In a pipe or file a line is as
    long as it needs to be.
    """
    cells = [[Text(head, style="bold") for head in heads]]
    cells += [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    widths = [max(row[place].cell_len for row in cells) for place in range(len(heads) - 1)]
    left = console.width - sum(width + 2 for width in widths)
    below = console.is_terminal and left < min(_LEAST_LAST, max(row[-1].cell_len for row in cells))
    lines = []
    for *fixed, last in cells:
        for cell, width in zip(fixed, widths, strict=True):
            cell.pad_right(width - cell.cell_len + 2)
        if console.is_terminal:
            last.truncate(max(console.width - 4 if below else left, 1), overflow="ellipsis")
        first = Text.assemble(*fixed)
        first.rstrip()
        lines.append(Text.assemble(first, "\n    ", last) if below else Text.assemble(*fixed, last))
    longest = max(len(part) for line in lines for part in line.plain.split("\n"))
    lines.insert(1, Text("─" * min(longest, console.width)))
    return lines


def mark(status: Status, text: str = "") -> Text:
    """A status as symbol and word, and what comes after it, in its colour."""
    symbol, _, style = MARKS[status]
    return Text(f"{symbol} {text or status}", style=style)


def short(value: Any, most: int = 400) -> str:
    """A value in as many characters as people read."""
    text = plain(value)
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more characters)"


def plain(value: Any) -> str:
    """A value as text, whole."""
    return clean(value if isinstance(value, str) else repr(value))
