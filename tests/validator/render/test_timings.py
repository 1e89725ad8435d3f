"""Where the time of a run went, as a table."""

from datetime import timedelta

from probes.contract import MIB, Timing
from tests.validator import reports
from validator.render import text, timings
from validator.render.console import plain_console
from validator.report import Report

PARTS = (
    Timing(name="matmul", started_s=0.0, duration_s=0.2),
    Timing(name="cuInit, NVML", started_s=0.2, duration_s=0.5),
    Timing(name="matmul", started_s=0.7, duration_s=0.4),
    Timing(name="shapes", started_s=1.1, duration_s=0.001),
)


def timed(memory_bytes: int | None = None) -> Report:
    """A report with a step, and a probe that began a second and a half later."""
    began = reports.STARTED + timedelta(seconds=1.5)
    probe = reports.result(
        "tensor_ops",
        "cuda:0",
        started_at=began,
        duration_s=1.25,
        timings=PARTS,
        memory_bytes=memory_bytes,
    )
    step = Timing(name="import of torch and NumPy", started_s=0.1, duration_s=0.9)
    return reports.report([probe], timings=(step,))


def lines(report: Report) -> list[str]:
    """The table's lines."""
    return [line.plain.rstrip() for line in timings.lines(report, plain_console())]


def test_steps_and_probes_as_they_began() -> None:
    """Parts of one name are one; short ones are left out; names may hold commas."""
    _heads, _line, step, probe = lines(timed())

    assert step.split() == ["0.10", "s", "0.90", "s", *["import", "of", "torch", "and", "NumPy"]]
    assert probe.split()[:6] == ["1.50", "s", "1.25", "s", "cuda:0", "tensor_ops"]
    assert probe.endswith("matmul 0.60 \N{MIDDLE DOT} cuInit, NVML 0.50")
    assert "shapes" not in probe


def test_memory_has_a_column_where_any_was_measured() -> None:
    """Of a back-end that counts none there is nothing to show."""
    assert "memory" not in lines(timed())[0]
    assert "memory" in lines(timed(264 * MIB))[0]
    assert " 264 MiB " in lines(timed(264 * MIB))[3]


def test_the_text_shows_it_where_it_was_asked_for() -> None:
    """Also beside `--quiet`, which asks for no more of the rest."""
    console = plain_console()

    assert "longest checks" in text.render(timed(), console)
    assert "longest checks" in text.render(timed(), console, quiet=True)
    assert "longest checks" not in text.render(reports.sound(), console)
