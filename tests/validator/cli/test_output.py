"""What is written where: stdout, files, pipes whose reader leaves, full disks."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.validator.cli.fakes import SICK, SOUND, Call, Runner
from tests.validator.tiny_disk import fill
from validator import whole_file
from validator.cli import files
from validator.cli.errors import UsageError
from validator.report import Report

pytestmark = pytest.mark.slow


def test_json_alone_on_stdout(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """One document, and nothing else anywhere."""
    call("check", "--output", "json", answer=SICK)
    told = capsys.readouterr()

    assert Report.model_validate_json(told.out).model_dump_json() == SICK.model_dump_json()
    assert told.err == ""


def test_text_and_junit(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """The other two forms."""
    call("check")
    text = capsys.readouterr().out
    call("check", "--quiet")
    quiet = capsys.readouterr().out
    call("check", "--output", "junit")

    assert text.endswith(quiet)
    assert "✓ pass    0.25 s  12 checks passed" in text
    assert quiet.startswith("✓ pass: 2 probes")
    assert capsys.readouterr().out.startswith("<?xml")


@pytest.mark.parametrize("form", ["text", "json", "junit"])
def test_output_file(
    form: str, call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The document goes there; people still see the text."""
    file = tmp_path / "report"
    file.write_text("old", encoding="utf-8")
    call("check", "--output", form, "--output-file", str(file), answer=SICK)
    content = file.read_text(encoding="utf-8")

    assert {"text": "gpu-v", "json": '{"sch', "junit": "<?xml"}[form] == content[:5]
    assert "✗ fail  tensor_ops on cuda:0" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [file]


def test_output_file_behind_a_link(call: Call, tmp_path: Path) -> None:
    """One's own link stays a link."""
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(file)
    call("check", "--output", "json", "--output-file", str(link))

    assert link.is_symlink()
    assert file.read_text(encoding="utf-8").startswith("{")


def test_output_file_is_whole_or_as_it_was(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where writing fails the old file stays, no draft does, and nobody hears that all is well."""
    file = tmp_path / "report"
    file.write_text("old", encoding="utf-8")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    codes = [
        call("check", "--output-file", str(file), *options, answer=answer)
        for answer, options in ((SOUND, []), (SICK, []), (SOUND, ["--fail-open"]))
    ]

    assert codes == [2, 1, 0]
    told = capsys.readouterr().err
    assert f"the report could not be written to --output-file {file}: [Errno 28]" in told
    assert file.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_output_file_on_a_full_disk(
    call: Call, tiny_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real one: could not tell, the old file stays, no draft does; the text is still shown."""
    file = tiny_disk / "report"
    file.write_text("old", encoding="utf-8")
    rest = fill(tiny_disk)
    code = call("check", "--output", "json", "--output-file", str(file))

    assert code == 2
    assert SOUND.summary in capsys.readouterr().out
    assert file.read_text(encoding="utf-8") == "old"
    assert {one.name for one in tiny_disk.iterdir()} == {"report", rest.name}


@pytest.mark.parametrize("option", ["--output-file", "--record"])
def test_permissions_of_a_file_are_kept(call: Call, tmp_path: Path, option: str) -> None:
    """A report that was made private is not opened to all, in the form for node_exporter either."""
    file = tmp_path / "report"
    file.write_text("old", encoding="utf-8")
    file.chmod(0o600)
    call("check", "--output", "prom", option, str(file))

    assert file.read_text(encoding="utf-8") != "old"
    assert file.stat().st_mode & 0o777 == 0o600


def test_nobody_can_plant_a_draft(call: Call, tmp_path: Path) -> None:
    """The name of earlier versions' drafts could be known, and a link there was followed."""
    victim = tmp_path / "victim"
    victim.write_text("precious", encoding="utf-8")
    (tmp_path / f".report.{os.getpid()}").symlink_to(victim)
    call("check", "--output-file", str(tmp_path / "report"))

    assert victim.read_text(encoding="utf-8") == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="files of other users need root")
def test_root_follows_nobody_s_link(call: Call, tmp_path: Path) -> None:
    """The link is replaced by the report, and what it named is as it was."""
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_text("precious", encoding="utf-8")
    link.symlink_to(victim)
    os.lchown(link, 65534, 65534)
    call("check", "--output", "json", "--output-file", str(link))

    assert victim.read_text(encoding="utf-8") == "precious"
    assert not link.is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="files of other users need root")
def test_a_stranger_s_file_in_a_folder_for_all_is_refused(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the run; a pipe of a stranger's there would get the report."""
    tmp_path.chmod(0o1777)
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "pipe"):
        os.chown(tmp_path / name, 65534, 65534)
    codes = [call("check", "--output-file", str(tmp_path / name)) for name in ("file", "pipe")]

    assert codes == [2, 2]
    assert Runner.seen is None
    assert capsys.readouterr().err.count("belongs to somebody else, in a folder") == 2


@pytest.mark.parametrize(("answer", "code"), [(SOUND, 2), (SICK, 1)])
def test_a_pipe_that_nobody_reads(
    answer: Report,
    code: int,
    call: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It hung until it was killed: now it is named, and the report counts as not written."""
    monkeypatch.setattr(files, "_DEADLINE_S", 0.2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    began = time.monotonic()
    ended = call("check", "--output-file", str(pipe), answer=answer)
    took = time.monotonic() - began

    assert ended == code
    assert took < 3
    assert f"nobody reads this pipe: '{pipe}'" in capsys.readouterr().err
    assert pipe.is_fifo()


def test_a_pipe_whose_reader_comes_late_or_stalls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waited for, but not for ever."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    late: list[bytes] = []

    def read() -> None:
        time.sleep(0.2)
        late.append(pipe.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    files.write_whole(pipe, "x" * 300_000)
    reader.join(10)
    monkeypatch.setattr(files, "_DEADLINE_S", 0.2)
    stalled = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OSError, match="its reader takes nothing"):
        files.write_whole(pipe, "x" * 300_000)
    os.close(stalled)

    assert late == [b"x" * 300_000]


def test_a_process_substitution(tmp_path: Path) -> None:
    """`--output-file >(cat > file)`: bash gives /dev/fd/63."""
    program = "import sys; from pathlib import Path; from validator.cli.files import *; "
    program += "refuse_unwritable(Path(sys.argv[1])); write_whole(Path(sys.argv[1]), 'x' * 99999)"
    line = f'{sys.executable} -c "{program}" >(cat > {tmp_path}/file; touch {tmp_path}/done)'
    line += f"; until [ -e {tmp_path}/done ]; do sleep 0.05; done"
    subprocess.run(["bash", "-c", line], check=True, timeout=60, cwd=Path(__file__).parents[3])

    assert (tmp_path / "file").read_text(encoding="utf-8") == "x" * 99999


def test_a_file_system_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither before the run nor after it does the command wait for ever."""
    answers = threading.Event()

    def hang(path: Path) -> Path:
        answers.wait(30)
        return path

    monkeypatch.setattr(files, "_DEADLINE_S", 0.2)
    monkeypatch.setattr(whole_file, "target", hang)
    began = time.monotonic()
    with pytest.raises(UsageError, match=r"the file system gave no answer in 0\.2 s"):
        files.refuse_unwritable(tmp_path / "file")
    with pytest.raises(OSError, match=r"the file system gave no answer in 0\.2 s"):
        files.write_whole(tmp_path / "file", "x")
    took = time.monotonic() - began
    answers.set()

    assert took < 3


def test_what_is_in_dev_and_is_a_folder_for_all(call: Call) -> None:
    """A file of /dev/shm is a file: a link of one's own is followed, and it is written whole."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        file = Path(name, "report")
        file.write_text("old", encoding="utf-8")
        call("check", "--output", "json", "--output-file", str(file))

        assert file.read_text(encoding="utf-8").startswith("{")


def test_output_file_that_is_a_device(call: Call, tmp_path: Path) -> None:
    """A device or pipe is written to, never replaced by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    call("check", "--output", "json", "--output-file", str(pipe))
    content = os.read(reader, 5)
    os.close(reader)

    assert content == b'{"sch'
    assert pipe.is_fifo()
    assert call("check", "--output-file", "/dev/null") == 0
    assert Path("/dev/null").is_char_device()


def test_output_file_named_dev_stdout(tmp_path: Path) -> None:
    """Where stdout is a file of somebody else's, that file gets the document at its end."""
    log = tmp_path / "log"
    log.write_text("before\n", encoding="utf-8")
    program = "from pathlib import Path; from validator.cli.files import write_whole; "
    program += "write_whole(Path('/dev/stdout'), 'document')"
    inode = log.stat().st_ino
    with log.open("a", encoding="utf-8") as stream:
        subprocess.run([sys.executable, "-c", program], stdout=stream, check=True, timeout=60)

    assert log.read_text(encoding="utf-8") == "before\ndocument"
    assert log.stat().st_ino == inode


def test_no_live_display_off_a_terminal(
    call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FORCE_COLOR asks for colours in a log, not for a display that redraws itself there."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    call("check")
    told = capsys.readouterr()

    assert told.err == ""
    assert "\x1b[32m" in told.out


def test_a_reader_that_leaves_is_no_error() -> None:
    """A closed pipe: quiet, and 128 + SIGPIPE."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "validator", "schema"],
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writer)

    assert (ended.returncode, ended.stderr) == (141, b"")


def faked(answer: str, form: str, stdout: int) -> tuple[int, bytes]:
    """Exit code and stderr of a `check` in a process of its own, with a fake runner."""
    program = (
        "import sys\n"
        "from tests.validator.cli import fakes\n"
        "from validator.cli import early, main as cli, one_run\n"
        "one_run.Runner, early.start_worker = fakes.Runner, fakes.Worker\n"
        f"fakes.Runner.answer = fakes.{answer}\n"
        f"sys.argv = ['gpu-validator', 'check', '--output', '{form}']\n"
        "sys.exit(cli.main())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    os.close(stdout)
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(("answer", "code"), [("SOUND", 0), ("SICK", 1)])
@pytest.mark.parametrize("form", ["text", "json"])
def test_the_verdict_stands_when_the_reader_leaves(form: str, answer: str, code: int) -> None:
    """`check | head`: the exit code is still the verdict, and nothing is complained of."""
    reader, writer = os.pipe()
    os.close(reader)

    assert faked(answer, form, writer) == (code, b"")


@pytest.mark.parametrize(("answer", "code"), [("SOUND", 2), ("SICK", 1)])
def test_a_report_that_is_lost_is_no_pass(answer: str, code: int) -> None:
    """Stdout on a full disk: one line, and a fail is still a fail."""
    ended, err = faked(answer, "text", os.open("/dev/full", os.O_WRONLY))

    assert ended == code
    assert err.startswith(b"gpu-validator: error: the report could not be written")
    assert err.count(b"\n") == 1


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("lst 2>/dev/full", 2),
        ("list >/dev/full", 2),
        ("list >/dev/full 2>/dev/full", 2),
        ("check --bogus --exit-style nagios 2>/dev/full", 3),
        ("check --bogus --fail-open 2>/dev/full", 0),
    ],
)
def test_a_full_disk_is_no_sick_node(script: str, code: int) -> None:
    """A log that cannot be written never makes the 1 that drains a node."""
    line = f"{sys.executable} -m validator {script}"
    ended = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    assert "bug" not in ended.stderr
