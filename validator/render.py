"""A report as one document: text for people, JSON, or JUnit XML."""

from typing import Literal

from rich.console import Console

from validator import render_junit, render_text
from validator.report import Report, to_json

Output = Literal["text", "json", "junit"]


def document(report: Report, output: Output, console: Console, *, quiet: bool = False) -> str:
    """The report in one of the forms; `console` and `quiet` shape the text alone."""
    if output == "json":
        return to_json(report) + "\n"
    if output == "junit":
        return render_junit.render(report)
    return render_text.render(report, console, quiet=quiet)
