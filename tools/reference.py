"""Write the reference tables of README.md from the code they describe.

Usage: python tools/reference.py [--check]
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, get_args

from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from probes.catalog import CATALOG
from validator import explain, profiles
from validator.api import application
from validator.render_catalog import duration
from validator.settings import ENV_PREFIX, Settings

README: Final = Path(__file__).parents[1] / "README.md"
#: What the tests hold the daemon's exposition to.
GOLDEN: Final = Path(__file__).parents[1] / "tests/golden/metrics.txt"


def row(*cells: str) -> str:
    """One line of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(*heads: str) -> Iterator[str]:
    """The head of a table."""
    yield row(*heads)
    yield row(*("---" for _ in heads))


def probes() -> Iterator[str]:
    """One row a probe."""
    yield from table("probe", "profile", "runs", "deadline", "every", "checks", "promise")
    for spec in CATALOG:
        where = "on each device" if spec.needs == "device" else "once a node"
        yield row(
            f"[`{spec.name}`](#{spec.name})",
            spec.profile,
            where,
            duration(spec.timeout_s),
            duration(spec.interval_s),
            str(len(spec.promises)),
            explain.read(spec).promise,
        )
    if told := profiles.notes():
        yield from ("", f"For now {told}.")


def checks() -> Iterator[str]:
    """A section a probe, with its limits and a row a check."""
    for spec in CATALOG:
        read = explain.read(spec)
        yield from (f"#### {spec.name}", "", read.promise, "", f"Why: {read.why}", "")
        if read.limits:
            yield from table("limit", "type", "default", "about")
            for limit in read.limits:
                name = f"`probes.{spec.name}.limits.{limit.name}`"
                yield row(name, f"`{limit.type}`", f"`{limit.default}`", limit.about)
            yield ""
        yield from table("check", "promise")
        for name, promise in spec.promises.items():
            yield row(f"`{spec.name}.{name}`", promise)
        yield ""


def settings() -> Iterator[str]:
    """One row a key, with its variable."""
    yield from table("key", "environment variable", "default", "meaning")
    for path, field in _fields(Settings, ()):
        variable = ENV_PREFIX + "__".join(part.upper() for part in path)
        default = "" if field.default in (None, PydanticUndefined) else str(field.default)
        if isinstance(field.default, tuple):
            default = ", ".join(field.default)
        about = field.description or ""
        yield row(f"`{'.'.join(path)}`", f"`{variable}`", f"`{default}`" if default else "", about)


def _fields(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        here = (*path, name)
        arguments = get_args(inner)
        if len(arguments) == 2 and _is_model(arguments[1]):
            yield from _fields(arguments[1], (*here, "<probe>"))
        elif _is_model(inner):
            yield from _fields(inner, here)
        else:
            yield here, field


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def metrics() -> Iterator[str]:
    """One row a metric family."""
    yield from table("metric", "type", "labels", "meaning")
    for family in text_string_to_metric_families(GOLDEN.read_text(encoding="utf-8")):
        if family.name.startswith("gpu_validator_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            named = dict.fromkeys(label for sample in family.samples for label in sample.labels)
            labels = ", ".join(f"`{label}`" for label in named)
            yield row(f"`{name}`", family.type, labels, family.documentation)


def endpoints() -> Iterator[str]:
    """One row a path."""
    nobody: Any = None
    yield from table("path", "answer")
    for path, methods in application(nobody).openapi()["paths"].items():
        yield row(f"`{path}`", methods["get"]["summary"])
    yield row("`/openapi.json`", "This interface, described")


TABLES: Final[dict[str, Callable[[], Iterator[str]]]] = {
    "probes": probes,
    "checks": checks,
    "settings": settings,
    "metrics": metrics,
    "endpoints": endpoints,
}


def rendered(text: str) -> str:
    """The page with every table as the code has it now."""
    for name, lines in TABLES.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"{README.name} lacks {begin} ... {end}")
        body = "\n".join(lines()).strip()
        text = f"{before}{begin}\n\n{body}\n\n{end}{after}"
    return text


def main() -> int:
    """Write the page, or say whether it is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when stale")
    only_check = parser.parse_args().check
    old = README.read_text(encoding="utf-8")
    new = rendered(old)
    if only_check:
        return int(old != new)
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
