"""A report as one document: text for people, JSON, JUnit XML, or Prometheus text."""

from typing import Final, Literal

from rich.console import Console

from validator.render import junit as render_junit
from validator.render import text as render_text
from validator.report import Report, to_json

Output = Literal["text", "json", "junit", "prom"]

#: Permissions whatever the umask is: node_exporter reads the file as a user of its own.
FILE_MODES: Final[dict[Output, int]] = {"prom": 0o644}


def document(
    report: Report,
    output: Output,
    console: Console,
    *,
    quiet: bool = False,
    verbose: bool = False,
) -> str:
    """The report in one of the forms; `console`, `quiet` and `verbose` shape the text alone."""
    if output == "json":
        return to_json(report) + "\n"
    if output == "junit":
        return render_junit.render(report)
    if output == "prom":
        from validator.service import textfile  # noqa: PLC0415 - prometheus_client: 25 ms for this alone

        return textfile.render(report)
    return render_text.render(report, console, quiet=quiet, verbose=verbose)
