"""Write the pages of docs/reference/ from the code they describe.

Usage: python tools/reference.py [--check]
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from probes.catalog import CATALOG
from probes.contract import ProbeSpec
from validator import profiles
from validator.render import explain
from validator.render.catalogue import duration
from validator.service.api import application
from validator.settings import configfile
from validator.settings.environment import ENV_PREFIX
from validator.settings.model import Settings

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = ROOT / "docs" / "reference"
#: The exposition that tests compare the daemon's with.
GOLDEN: Final = ROOT / "tests" / "golden" / "metrics.txt"

_NOTICE: Final = "<!-- Made from the code by tools/reference.py: change it there. -->"


def row(*cells: str) -> str:
    """One line of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(*heads: str) -> Iterator[str]:
    """The two head lines of a table."""
    yield row(*heads)
    yield row(*("---" for _ in heads))


def probes() -> Iterator[str]:
    """The lines of the index: a row for each probe, and links to the other pages."""
    yield from (
        "# Reference",
        "",
        "What the code says of itself; a test holds these pages to it.",
        "",
    )
    yield from table("probe", "profile", "runs", "deadline", "every", "checks", "promise")
    for spec in CATALOG:
        yield row(
            f"[`{spec.name}`]({spec.name}.md)",
            spec.profile,
            _where(spec),
            duration(spec.timeout_s),
            duration(spec.interval_s),
            str(len(spec.promises)),
            explain.read(spec).promise,
        )
    if notes := profiles.notes():
        yield from ("", f"For now {notes}.")
    yield ""
    other_pages = {"settings": "Settings", "metrics": "Metrics", "http": "HTTP"}
    yield (
        "See also: " + ", ".join(f"[{text}]({page}.md)" for page, text in other_pages.items()) + "."
    )


def _where(spec: ProbeSpec) -> str:
    return "on each device" if spec.needs == "device" else "once a node"


def probe(spec: ProbeSpec) -> Iterator[str]:
    """The lines of a probe's page: what `explain` prints, its limits, a row for each check."""
    explanation = explain.read(spec)
    yield from (f"# {spec.name}", "", f"**{explanation.promise}**", "")
    yield from (f"Why: {explanation.why}", "", f"Fix: {explanation.fix}", "")
    cost = f"deadline {duration(spec.timeout_s)}, every {duration(spec.interval_s)}"
    yield from (f"Profile `{spec.profile}`, {_where(spec)}, {cost}.", "")
    if explanation.limits:
        yield from table("limit", "type", "default", "about")
        for limit in explanation.limits:
            name = f"`probes.{spec.name}.limits.{limit.name}`"
            yield row(name, f"`{limit.type}`", f"`{limit.default}`", limit.about)
        yield ""
    yield from table("check", "promise", "passed on GPUs")
    for name, promise in spec.promises.items():
        check = f"{spec.name}.{name}"
        yield row(
            f"`{check}`", promise, "; ".join(explain.hardware_of_recordings(check)) or "none yet"
        )
    yield ""
    yield from (f"- <{reference}>" for reference in explanation.references)


def settings() -> Iterator[str]:
    """The lines of the settings page: a row for each key, with its variable."""
    yield from ("# Settings", "", "Flags win over the environment, that over the YAML file.", "")
    default = (
        "What an image, a unit or a manifest sets for whoever says nothing else has the prefix "
        "`GPU_VALIDATOR_DEFAULTS__`, as in `GPU_VALIDATOR_DEFAULTS__EXPECT__GPUS=1`: the file wins "
        "over that too."
    )
    yield from (default, "")
    size = f"{configfile.MOST_BYTES // 1024} KiB"
    yield (
        f"The file is a regular one of at most {size}, in UTF-8 and the core types of YAML: a date "
        "is text. No time is longer than a year."
    )
    yield ""
    yield (
        "`serve --config.check --config.file FILE` proves that a daemon would start from it here, "
        "folders and addresses included; `check --config.check` looks at values and schedule. "
        "What is wrong is told with file, line and key."
    )
    yield ""
    yield (
        "`gpu-validator schema --settings > gpu-validator.schema.json` gives editors a schema; "
        "with yaml-language-server the file's first line names it: "
        "`# yaml-language-server: $schema=gpu-validator.schema.json`."
    )
    yield ""
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
        annotation: Any = field.annotation
        field_path = (*path, name)
        arguments = get_args(annotation)
        if len(arguments) == 2 and _is_model(arguments[1]):
            yield from _fields(arguments[1], (*field_path, "<probe>"))
        elif _is_model(annotation):
            yield from _fields(annotation, field_path)
        else:
            yield field_path, field


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def metrics() -> Iterator[str]:
    """The lines of the metrics page: a row for each metric family."""
    yield from ("# Metrics", "", "Served on `/metrics`, and written by `check --output prom`.", "")
    yield from table("metric", "type", "labels", "meaning")
    for family in text_string_to_metric_families(GOLDEN.read_text(encoding="utf-8")):
        if family.name.startswith("gpu_validator_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            label_names = dict.fromkeys(
                label for sample in family.samples for label in sample.labels
            )
            labels = ", ".join(f"`{label}`" for label in label_names)
            yield row(f"`{name}`", family.type, labels, family.documentation)


def endpoints() -> Iterator[str]:
    """The lines of the HTTP page: a row for each path."""
    no_service: Any = None
    yield from ("# HTTP", "", "Port 8790 by default (`web.listen_address`).", "")
    yield from table("path", "answer")
    for path, methods in application(no_service).openapi()["paths"].items():
        yield row(f"`{path}`", methods["get"]["summary"])
    yield row("`/openapi.json`", "This interface, described")


def pages() -> dict[str, str]:
    """File name -> text of every page."""
    bodies = {
        "README.md": probes(),
        **{f"{spec.name}.md": probe(spec) for spec in CATALOG},
        "settings.md": settings(),
        "metrics.md": metrics(),
        "http.md": endpoints(),
    }
    return {
        name: f"{_NOTICE}\n\n" + "\n".join(lines).strip() + "\n" for name, lines in bodies.items()
    }


def stale(folder: Path) -> list[str]:
    """File names of the pages that differ from the code, are missing, or should not exist."""
    expected = pages()
    existing = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.md")}
    return sorted(
        name for name in expected.keys() | existing if expected.get(name) != existing.get(name)
    )


def main() -> int:
    """Write the pages; with `--check` only print the stale ones and return 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when stale")
    if parser.parse_args().check:
        stale_pages = stale(PAGES)
        sys.stdout.writelines(f"stale: docs/reference/{name}\n" for name in stale_pages)
        return int(bool(stale_pages))
    PAGES.mkdir(exist_ok=True)
    expected = pages()
    for name in stale(PAGES):
        if name in expected:
            (PAGES / name).write_text(expected[name], encoding="utf-8")
        else:
            (PAGES / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
