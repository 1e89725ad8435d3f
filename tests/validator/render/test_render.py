"""One report, three forms: text that fits each terminal, JSON, JUnit XML."""

import io
import json
import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from probes.catalog import BY_NAME
from probes.contract import Finding, Result
from tests.validator import reports
from validator.cli import document as render
from validator.render.console import clean, console_for, encodable, plain_console, short
from validator.report import Device, Environment, Report, full_summary


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


class Ascii(io.StringIO):
    """A pipe to a program that reads ASCII."""

    encoding = "ascii"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wish about colour or width from outside, and a terminal that can do all."""
    for variable in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "COLORTERM"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def text(made: Report, console: Console | None = None, **options: Any) -> str:
    """The report as text, by default in a pipe."""
    return render.document(made, "text", console or console_for(io.StringIO()), **options)


def test_sound_report_in_a_pipe() -> None:
    """The whole text, letter by letter: what the README shows."""
    assert text(reports.sound()).splitlines()[1:] == [
        "torch 2.13.0+cpu · NumPy 2.4.6 · Python 3.11.7",
        "",
        "device  probe           status      time  summary",
        "──────────────────────────────────────────────────────────────────────",
        "cpu     torch_version   ✓ pass    0.25 s  12 checks passed",
        "        cuda_available  – skip    0.25 s  no_device: no GPU is present",  # noqa: RUF001
        "        autograd        ✓ pass    0.25 s  12 checks passed",
        "",
        "✓ pass: 2 probes, 1 skipped (no GPU here: checked on the CPU) · 3.2 s",
    ]


def test_each_failure_is_told() -> None:
    """Check, both values, hint, action, what the retries told, the output of what died."""
    told = text(reports.sick())

    assert (
        "✗ fail  tensor_ops on cuda:0\n"
        "  ✗ tensor_ops.linear_algebra\n"
        "    1 of 31 operations wrong (matmul)\n"
        "    expected  all 31 operations right in every element\n"
        f"    observed  {reports.LOST_BITS}\n"
        "    pattern   matmul: 12 elements from [0, 3] to [11, 3], 64 apart, all at 3 on axis 1; "
        "bits 0x00080000 in each; the same when read again\n"
        f"    triage    {reports.RETRIES}; at 61 °C, then 62, 63 °C\n"
        "    hint      run it again on the CPU, then test the GPU's memory with "
        "`dcgmi diag -r 3`\n"
        "    action    drain the node\n"
    ) in told
    assert "    expected  6.0\n    observed  NaN\n    action    investigate\n" in told
    assert "    | Fatal Python error: ·[31mSegmentation fault·[0m·\n" in told
    assert (
        "  internal_error: KeyError: 'x'\n    raised    KeyError: 'x'\n"
        "    traceback:\n    | Traceback: in observe\n"
    ) in told
    assert "? not run\n    train_eval on cuda:1: run_timeout\n" in told
    assert "cuda:1  autograd         – skip     0.25 s  gpu_busy: 2 other" in told  # noqa: RUF001
    assert told.splitlines()[-1].startswith("✗ fail: tensor_ops on cuda:0 (+1 more)")


def test_what_older_versions_told_of_retries_is_told() -> None:
    """It stands in the summary alone."""
    finding = Finding(id="autograd.detach", status="fail", message="wrong", action="drain")
    made = reports.result(
        "autograd",
        status="fail",
        summary="detach: wrong (persistent: failed again in 2 of 2 retries)",
        findings=(finding,),
    )

    assert text(reports.report([made]), quiet=True).startswith(
        "✗ fail  autograd on cpu\n"
        "  persistent: failed again in 2 of 2 retries\n"
        "  ✗ autograd.detach\n"
    )


def test_the_cause_of_a_known_error_is_told() -> None:
    """What torch said and what it means are two things; people need both."""
    said = "RuntimeError: CUDA error: an illegal memory access was encountered"
    finding = Finding(
        id="autograd.completes", status="fail", message=said, observed=said, expected="no exception"
    )
    made = reports.result(
        "autograd",
        status="fail",
        reason="torch_raised",
        summary="a kernel read outside its memory",
        findings=(finding,),
    )

    assert text(reports.report([made]), quiet=True).startswith(
        "✗ fail  autograd on cpu\n"
        "  a kernel read outside its memory\n"
        "  ✗ autograd.completes\n"
        "    expected  no exception\n"
        f"    observed  {said}\n"
    )


def test_passing_checks_are_not_told() -> None:
    """People read what is wrong; the JSON holds the rest."""
    assert "tensor_ops.creation" not in text(reports.sick())


def test_quiet_leaves_the_verdict_and_what_is_wrong() -> None:
    """One line when all is well."""
    assert text(reports.sound(), quiet=True).count("\n") == 1
    quiet = text(reports.sick(), quiet=True)

    assert quiet.startswith("✗ fail  tensor_ops on cuda:0")
    assert "torch_version" not in quiet


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("made", [reports.sound(), reports.sick()])
def test_terminal_is_wide_enough(made: Report, width: int) -> None:
    """No line runs over, and no name is cut: the summary gives way."""
    console = console_for(Terminal(), width=width)
    console.no_color = True
    console._color_system = None
    lines = text(made, console).splitlines()

    table = lines[next(n for n, line in enumerate(lines) if line.startswith("───")) + 1 :]

    assert max(map(len, lines)) <= width
    assert table.index("") == len(made.results)
    assert any("cuda_available" in line or "device_transfer  ! warn" in line for line in lines)


def test_only_a_column_of_a_narrow_terminal_is_cut() -> None:
    """The verdict is whole there too, on as many lines as it takes."""
    console = console_for(Terminal(), width=60)
    console.no_color = True
    console._color_system = None
    made = reports.sick()
    told = text(made, console)
    row = next(line for line in told.splitlines() if line.startswith("cuda:0  tensor_ops"))

    assert row.endswith("…")
    assert told.count("…") == told[: told.index("\n\n✗")].count("…")
    verdict = told[told.rindex("✗ fail: tensor_ops") :]
    assert " ".join(verdict.split()) == f"✗ {full_summary(made.results)} · 300.0 s"
    assert len(full_summary(made.results)) > 80


@pytest.mark.parametrize("made", [reports.sound(), reports.sick()], ids=["sound", "sick"])
def test_where_the_last_column_has_no_room_it_stands_below(made: Report) -> None:
    """On few columns no row of the table is broken by the terminal: a name, then what it said."""
    lines = text(made, console_for(Terminal(), width=46)).splitlines()
    table = lines[lines.index(next(line for line in lines if "─" in line)) + 1 :]
    rows = table[: table.index("")]

    assert len(rows) == 2 * len(made.results)
    assert all(row.startswith("    ") and len(row) <= 46 for row in rows[1::2])
    assert all(re.search(r" s$", clean(re.sub("\x1b\\S*?m", "", row))) for row in rows[::2])


def test_verbose_lists_each_check_of_a_probe() -> None:
    """Below the probe's line: what it promises where it passed, why not where it did not."""
    passed = Finding(id="autograd.detach", status="pass", observed=[1, 2], expected="bits equal")
    failed = Finding(id="autograd.hooks", status="fail", message="3 hooks,\nnot 2")
    strange = Finding(id="elsewhere.check", status="skip", message="no GPU")
    result = reports.result("autograd", "cpu", "fail", findings=(passed, failed, strange))
    lines = text(reports.report([result]), verbose=True).splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("cpu "))

    assert lines[place + 1 : place + 4] == [
        f"  ✓ detach  {BY_NAME['autograd'].promises['detach']}",
        "  ✗ hooks  3 hooks, not 2",
        "  – check  no GPU",  # noqa: RUF001
    ]
    assert "✓ detach" not in text(reports.report([result]))
    narrow = text(reports.report([result]), console_for(Terminal(), width=30), verbose=True)
    assert "…" in next(line for line in narrow.splitlines() if "detach" in line)


def test_nothing_is_cut_in_a_pipe() -> None:
    """Summary, values and verdict are whole, each on a line of its own."""
    finding = Finding(
        id="autograd.detach", status="fail", message="wrong", observed="o" * 900, expected="e" * 900
    )
    bad = reports.result("autograd", status="fail", summary="s " * 450, findings=(finding,))
    told = text(reports.report([bad]), console_for(io.StringIO(), width=80))

    assert "…" not in told
    assert "more characters" not in told
    assert f"    expected  {'e' * 900}\n    observed  {'o' * 900}\n" in told
    assert f"s  {('s ' * 450).rstrip()}\n" in told
    assert told.endswith(f"\n✗ fail: autograd on cpu: {('s ' * 450).rstrip()} · 3.2 s\n")


def test_hints_hang_below_their_label() -> None:
    """On a terminal the second line of a hint starts where the first does."""
    console = console_for(Terminal(), width=60)
    console._color_system = None
    lines = text(reports.sick(), console).splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("    hint  "))

    assert lines[first + 1].startswith(" " * 14)
    assert lines[first + 1][14] != " "


def test_lines_are_whole_in_a_pipe() -> None:
    """`grep hint` finds all of it."""
    hint = "run it again on the CPU, then test the GPU's memory with `dcgmi diag -r 3`"

    assert f"    hint      {hint}\n" in text(reports.sick(), console_for(io.StringIO(), width=40))


def test_colours_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets colours; a pipe, a dumb terminal and NO_COLOR do not."""
    made = reports.sound()
    red_or_green = "\x1b[32m"

    assert red_or_green in text(made, console_for(Terminal()))
    assert "\x1b" not in text(made)
    monkeypatch.setenv("NO_COLOR", "1")
    assert red_or_green not in text(made, console_for(Terminal()))
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in text(made, console_for(Terminal()))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert red_or_green in text(made, console_for(io.StringIO()))
    assert "\x1b" not in text(made, plain_console())


def test_the_word_stands_beside_every_colour() -> None:
    """Without colours nothing is lost."""
    told = text(reports.sick())

    assert all(word in told for word in ("✓ pass", "! warn", "✗ fail", "? error", "– skip"))  # noqa: RUF001


@pytest.mark.parametrize("made", [reports.sound(), reports.sick()])
def test_ascii_where_the_reader_takes_no_more(made: Report) -> None:
    """Symbols and lines have an ASCII form; nothing raises."""
    told = text(made, console_for(Ascii()))

    assert told.isascii()
    assert "+ pass" in told
    assert "-----" in told
    assert "- skip" in told


def test_nothing_from_outside_steers_the_terminal() -> None:
    """Every text that a library or a dead process wrote comes without control characters."""
    evil = "\x1b]0;title\x07\x1b[2J\r\x9b31m\u202e"
    finding = Finding(
        id="autograd.detach",
        status="fail",
        message=evil,
        observed=[evil, {evil: evil}],
        expected=evil,
        hint=evil,
    )
    made = reports.report(
        [
            reports.result(
                "autograd", status="fail", summary=evil, findings=(finding,), log_tail=evil
            ),
            reports.result("tensor_ops", status="error", reason="crashed", summary=evil),
        ],
        environment=Environment(torch=evil),
        devices=(Device(name="cuda:0", type="cuda", model_name=evil),),
    )
    told = text(made)

    assert all(character.isprintable() or character == "\n" for character in told)


def test_no_table_without_results() -> None:
    """A run that was cut off before its first result."""
    told = text(reports.report([]))

    assert "summary" not in told
    assert told.endswith("? error: nothing could be told: no probe was planned · 3.2 s\n")


def test_long_values_are_cut() -> None:
    """With how much is missing."""
    assert short("x" * 500) == "x" * 400 + "… (100 more characters)"
    assert short([1, "a"]) == "[1, 'a']"


def test_clean_and_encodable() -> None:
    """What is printable stays; what an encoding lacks is spelled out."""
    assert clean("a\tb\x00c\nd") == "a   b·c\nd"
    assert encodable("✓ é…", "utf-8") == "✓ é…"
    assert encodable("✓ é…", "ascii") == "+ \\xe9..."
    assert encodable("é", "latin-1") == "é"
    assert encodable("✓", "no-such-encoding") == "+"


def test_json_is_the_report() -> None:
    """One line, one document, equal to the report."""
    made = reports.sick()
    told = render.document(made, "json", plain_console())

    assert told.count("\n") == 1
    assert Report.model_validate_json(told).model_dump_json() == made.model_dump_json()
    assert json.loads(told)["status"] == "fail"


def parse(made: Report) -> ET.Element:
    """The report's JUnit document, as another program reads it."""
    document = render.document(made, "junit", plain_console())
    return ET.fromstring(document.encode())  # noqa: S314 - our own document


def test_junit_suites_and_sums() -> None:
    """A suite a device; the sums are those of the cases."""
    root = parse(reports.sick())

    assert [suite.get("name") for suite in root] == ["cpu", "cuda:0", "cuda:1"]
    for element, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert root.get(element) == str(len(list(root.iter(tag))))
    assert root.get("tests") == str(len(list(root.iter("testcase")))) == "8"
    assert (root.get("failures"), root.get("errors"), root.get("skipped")) == ("2", "2", "1")


def test_junit_cases() -> None:
    """A case a check; one more where no check tells what the probe came to."""
    cases = {
        (case.get("classname"), case.get("name")): case
        for suite in parse(reports.sick()).iterfind("testsuite")
        for case in suite
        if suite.get("name") != "cuda:1"
    }
    failure = cases["tensor_ops", "linear_algebra"].find("failure")
    crash = cases["train_eval", "runs"].find("failure")
    warning = cases["device_transfer", "pinned"].find("system-out")

    assert failure is not None
    assert failure.get("message", "").startswith("1 of 31 operations wrong")
    assert "hint: run it again" in (failure.text or "")
    assert "pattern: matmul: 12 elements from [0, 3] to [11, 3]" in (failure.text or "")
    assert f"triage: {reports.RETRIES}" in (failure.text or "")
    assert crash is not None
    assert crash.get("type") == "crashed"
    assert "Segmentation fault" in (crash.text or "")
    assert "Traceback: in observe" in (cases["autograd", "runs"].findtext("error") or "")
    assert warning is not None
    assert "observed: NaN" in (warning.text or "")
    assert len(cases["tensor_ops", "creation"]) == 0
    assert len(cases["torch_version", "runs"]) == 0


def test_junit_tells_skips_and_lost_chances() -> None:
    """A skip with its reason code; what was not run is an error."""
    root = parse(reports.sick())
    skip = root.find("testsuite[@name='cuda:1']/testcase[@classname='autograd']/skipped")
    lost = root.find("testsuite[@name='cuda:1']/testcase[@classname='train_eval']/error")

    assert skip is not None
    assert skip.get("type") == "gpu_busy"
    assert skip.get("message") == "2 other processes hold 70 GiB of its memory"
    assert lost is not None
    assert lost.get("type") == "run_timeout"


def test_junit_holds_any_text() -> None:
    """Control characters and half characters, which XML cannot hold, are replaced."""
    made = reports.report(
        [
            reports.result(
                "autograd", status="fail", summary='a\x00\x1b\ufffe<&"]]>', log_tail="\x08"
            )
        ]
    )
    failure = parse(made).find(".//failure")

    assert failure is not None
    assert failure.get("message") == 'a\ufffd\ufffd\ufffd<&"]]>'


def test_what_is_alike_is_told_once() -> None:
    """Eight GPUs that fail in one way are one paragraph; another way is another."""

    def wrong(probe: str, device: str, hint: str = "drain it") -> Result:
        finding = Finding(id=f"{probe}.completes", status="fail", message="lost", hint=hint)
        return reports.result(probe, device, "fail", summary="lost", findings=(finding,))

    everywhere = [wrong("autograd", f"cuda:{index}") for index in range(8)]
    both = [wrong(probe, "cuda:0") for probe in ("autograd", "tensor_ops")]
    apart = [wrong("autograd", "cuda:0"), wrong("tensor_ops", "cuda:1")]
    differing = [wrong("autograd", "cuda:0"), wrong("autograd", "cuda:1", "another")]
    told = text(reports.report(everywhere), quiet=True)

    assert told.startswith(
        "✗ fail  autograd on cuda:0, cuda:1, cuda:2, cuda:3, cuda:4, cuda:5, cuda:6, cuda:7\n"
        "  ✗ autograd.completes\n    lost\n"
    )
    assert told.count("drain it") == 1
    assert "lost" not in told.replace("    lost\n", "", 1).partition("✗ fail:")[0]
    told = text(reports.report(both), quiet=True)
    assert told.startswith("✗ fail  autograd, tensor_ops on cuda:0\n  ✗ completes\n    lost\n")
    told = text(reports.report(apart), quiet=True)
    assert told.startswith("✗ fail  autograd on cuda:0, tensor_ops on cuda:1\n  ✗ completes\n")
    assert text(reports.report(differing), quiet=True).count("✗ fail  autograd on cuda:") == 2


def test_long_output_is_cut_to_its_end() -> None:
    """The last lines say what killed it."""
    tail = "\n".join(f"line {number}" for number in range(40))
    made = reports.result("autograd", status="fail", reason="crashed", log_tail=tail)
    told = text(reports.report([made]))

    assert "its output (last 12 of 40 lines):\n    | line 28\n" in told
    assert "    | line 39\n" in told
    assert "line 27" not in told
