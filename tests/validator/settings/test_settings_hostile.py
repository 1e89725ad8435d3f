"""Whatever stands in the settings: they hold, or what is wrong is told, at once and in a line."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probes.catalog import CATALOG
from tests.validator.hostile import TEXTS, VALUES, keys, nested
from tests.validator.service.fake_runner import FakeRunner
from validator.engine.plan import limits
from validator.service import startup
from validator.service.daemon import Daemon
from validator.settings.configfile import MOST_BYTES
from validator.settings.environment import ENV_PREFIX
from validator.settings.loading import load
from validator.settings.model import Settings
from validator.settings.values import DEEPEST, SettingsError

ROOT = Path(__file__).parents[3]

#: The same examples each time, in bounded number.
BOUNDED = settings(
    derandomize=True,
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

PATHS = tuple(keys())


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of ours from outside, and no look at a network."""
    for variable in list(os.environ):
        if variable.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(variable)
    monkeypatch.setattr(startup, "_own_addresses", lambda _: frozenset())


def outcome(
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    variables: Mapping[str, str] = {},
) -> str:
    """What is wrong; empty where a daemon starts from the settings and its first run is planned."""
    with mock.patch.dict(os.environ, variables):
        try:
            right = load(file, flags, startup.of_a_daemon)
        except SettingsError as error:
            told = str(error)
            assert told
            assert len(told) < 20_000
            told.encode(errors="backslashreplace")
            return told
    start(right)
    return ""


def start(right: Settings) -> None:
    """Make a daemon, show what it shows, and plan its first run."""
    daemon = Daemon(right, runner=FakeRunner())
    daemon.tick()
    assert daemon.alive() == ""
    json.dumps([state.model_dump(mode="json") for state in daemon.probes()])
    asked = [limits(spec, right) for spec in CATALOG]
    assert len(json.dumps(asked)) < 60_000


@BOUNDED
@given(st.text(max_size=300))
def test_any_text_is_told(tmp_path: Path, text: str) -> None:
    """A file of any characters."""
    file = tmp_path / "settings.yaml"
    file.write_bytes(text.encode(errors="surrogatepass"))

    told = outcome(file)
    assert not told or told.startswith(str(file))


YAML_PARTS = (
    "run",
    "web",
    ": ",
    "- ",
    "\n",
    "  ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "&a ",
    "*a",
    "<<",
    "!!",
)
MORE_PARTS = ("? ", "| ", ">\n", "'", '"', "#", "---", "...", "%", "@", "\t", "!!str ", "!!set ")


@BOUNDED
@given(st.lists(st.sampled_from(YAML_PARTS + MORE_PARTS + TEXTS[:40]), max_size=30).map("".join))
def test_any_yaml_is_told(tmp_path: Path, text: str) -> None:
    """Pieces of YAML in any order."""
    file = tmp_path / "settings.yaml"
    file.write_bytes(text.encode(errors="surrogatepass"))

    told = outcome(file)
    assert not told or told.startswith(str(file))


@BOUNDED
@given(st.binary(max_size=100))
def test_any_bytes_are_told(tmp_path: Path, content: bytes) -> None:
    """Behind a byte order mark too."""
    file = tmp_path / "settings.yaml"
    for start_of_it in (b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"):
        file.write_bytes(start_of_it + content)
        told = outcome(file)
        assert not told or told.startswith(str(file))


@BOUNDED
@given(st.sampled_from(PATHS), VALUES)
def test_any_value_of_any_key_is_told(tmp_path: Path, path: tuple[str, ...], value: Any) -> None:
    """The file and the key are named; `limits` and sections are named by what is in them."""
    file = tmp_path / "settings.yaml"
    document = nested(path, value)
    try:
        text = json.dumps(document)
        file.write_text(text, encoding="utf-8")
    except ValueError:
        return
    told = outcome(file)

    assert not told or told.startswith(f"{file}:")
    assert not told or "." not in path or ".".join(path[:2]) in told


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_every_hostile_text_of_every_key_is_told(path: tuple[str, ...], tmp_path: Path) -> None:
    """In the file, as a flag and as a variable: three ways to the same answer."""
    file = tmp_path / "settings.yaml"
    for text in TEXTS:
        file.write_text(json.dumps(nested(path, text)), encoding="utf-8")
        in_file = outcome(file)
        as_flag = outcome(None, nested(path, text))
        assert not in_file or in_file.startswith(f"{file}:")
        variable = ENV_PREFIX + "__".join(path).upper()
        if "\0" not in text and not any("\ud800" <= c < "\udc80" for c in text):
            told = outcome(None, None, {variable: text})
            assert not told or told.startswith(f"environment variable {variable}"), (text, told)
        assert "Traceback" not in in_file + as_flag


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0="), min_size=1, max_size=20
) | st.sampled_from(
    [
        *("RUN", "RUN__TIMEOUT", "RUN__TIMEOUT__X", "RUN__", "__RUN", "A__" * 3000, "\udcff"),
        *("PROBES", "PROBES__CUDA_AVAILABLE", "PROBES__\udcff__TIMEOUT", "SCHEDULE__AUTOGRAD"),
        *("RUN____TIMEOUT", "EXPECT__GPUS__0", "WEB__LISTEN_ADDRESS__0", "CONFIG_FILE_CONTENT"),
        *("_", "__"),
    ]
)
JSON = VALUES.map(lambda value: json.dumps(value, ensure_ascii=False)).filter(
    lambda text: "\0" not in text and not any("\ud800" <= c < "\udc80" for c in text)
)


@BOUNDED
@given(st.dictionaries(NAMES, JSON | st.sampled_from(("", "{", "[" * 3000)), max_size=3))
def test_any_variables_are_told(variables: dict[str, str]) -> None:
    """Names and values of any kind, several at a time."""
    given_now = {f"{ENV_PREFIX}{name}": value for name, value in variables.items()}
    told = outcome(None, None, given_now)

    assert not told or "environment variable" in told, told


@pytest.mark.parametrize("depth", [DEEPEST + 1, 900, 5000])
def test_a_deep_variable_is_no_json(depth: int) -> None:
    """It is text then, which no section is."""
    told = outcome(None, None, {f"{ENV_PREFIX}RUN": '{"profile":' * depth + "1" + "}" * depth})

    assert told.startswith(f"environment variable {ENV_PREFIX}RUN: run: must be a mapping of keys")


#: Name -> a file that a reader without bounds takes long for, or much memory.
BOMBS: dict[str, Callable[[], str]] = {
    "laughs": lambda: (
        "a0: &a0 [x]\n"
        + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))
    ),
    "merges": lambda: (
        "a0: &a0 {x: 1}\n"
        + "\n".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 30))
    ),
    "itself": lambda: "run: &a {run: *a}",
    "deep": lambda: "run: " + "[" * 600 + "]" * 600,
    "deep blocks": lambda: "\n".join(" " * level + "a:" for level in range(300)),
    "digits": lambda: f"run: {{threads: {'9' * 5000}}}",
    "hexadecimal digits": lambda: f"run: {{threads: 0x{'f' * 5000}}}",
    "many values": lambda: f"run: [{'a,' * 32_000}]",
    "many keys": lambda: "\n".join(f"k{number}: 1" for number in range(6000)),
    "many probes": lambda: f"probes: {{{','.join(f'p{number}: 1' for number in range(4000))}}}",
    "large": lambda: "# " + "x" * 100_000_000,
    "unclosed": lambda: "{" * (MOST_BYTES - 1),
    "duration": lambda: f"run: {{timeout: '{'1' * 60_000}x'}}",
    "cron": lambda: "".join(
        f"{'schedule:' if not number else ''}\n  {spec.name}: {{cron: '0 0 30 2 *'}}"
        for number, spec in enumerate(CATALOG)
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_told_soon(name: str, tmp_path: Path) -> None:
    """In less than two seconds of a core, with the line where there is one."""
    file = tmp_path / "settings.yaml"
    file.write_text(BOMBS[name](), encoding="utf-8")
    before = time.process_time()

    told = outcome(file)
    assert told.startswith(f"{file}:")
    assert time.process_time() - before < 2


@pytest.mark.slow
def test_no_bomb_takes_memory(tmp_path: Path) -> None:
    """All of them in one process: it grows by less than 40 MiB."""
    files = []
    for place, make in enumerate(BOMBS.values()):
        files.append(tmp_path / f"{place}.yaml")
        files[-1].write_text(make(), encoding="utf-8")
    program = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from validator.settings.loading import load\n"
        "from validator.service import startup\n"
        "from validator.settings.values import SettingsError\n"
        # Not ru_maxrss: that begins with the most that the process had which started this one.
        "status = Path('/proc/self/status')\n"
        "most = lambda: int(re.search(r'VmHWM:\\s+(\\d+) kB', status.read_text())[1])\n"
        "before = most()\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        load(Path(name), None, startup.of_a_daemon)\n"
        "    except SettingsError:\n"
        "        pass\n"
        "print(most() - before)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *map(str, files)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert int(ended.stdout) < 40 * 1024


def test_as_deep_as_may_be_is_read(tmp_path: Path) -> None:
    """The bound itself is no error of form: what is wrong then is the value."""
    file = tmp_path / "settings.yaml"
    file.write_text(f"run: {'[' * (DEEPEST - 1)}{']' * (DEEPEST - 1)}", encoding="utf-8")

    assert "run: must be a mapping" in outcome(file)


#: Content -> what is told of it.
ODD = {
    b"\xff\xfer\x00u\x00n\x00": ": is UTF-16; save it as UTF-8",
    b"\xfe\xff\x00r\x00u\x00n": ": is UTF-16; save it as UTF-8",
    b"run:\n  timeout: \xe9": ":2: is no UTF-8; save it as UTF-8",
    b"run:\n\x00": ":2: holds the character U+0000",
    b'run:\n  devices: "a\\0b"': ":2: run.devices: holds the character U+0000",
    b'files: {ready: "/tmp/\\ud800"}': ":1: files.ready: holds the character U+D800",
    b"run:\n  threads: !!int x": ":2: run.threads: 'x' is no number",
    b"log:\n  level: !!bool x": ":2: log.level: 'x' is neither true nor false",
    b"run: !!map x": ":1: run: the tag !!map is none of settings",
    b"run: !!binary YQ==": ":1: run: the tag !!binary is none of settings",
    b"run: !!timestamp 2001-02-30": ":1: run: the tag !!timestamp is none of settings",
    b"run: !!python/name:os.system x": ":1: run: the tag !!python/name:os.system is none of",
    b"expect:\n  gpus: 2001-02-30": ":2: expect.gpus: '2001-02-30' is no number of GPUs",
    b"run:\n  timeout: 9999999d": ":2: run.timeout: 8.64e+11 s is longer than a year",
    b"run:\n  timeout: yes": ":2: run.timeout: True is no duration",
    b"no: {}": ":1: key no is no text; write it in quotes",
    b"? [a]\n: b": ":1: a key is no text",
    b"run: {<<: 3}": ":1: run: '<<' merges mappings alone",
    b"a: b: c": ":1: not valid YAML: mapping values are not allowed here",
    b"a: 1\n---\nb: 2": ":2: not valid YAML: expected a single document",
    b"run: {threads: 1e999}": ":1: run.threads",
    b"run:\n  timeout: 1.0e+999": ":2: run.timeout: '1.0e+999' is larger than any number",
}


@pytest.mark.parametrize("content", ODD, ids=lambda content: content.decode(errors="replace"))
def test_an_odd_file_is_told_with_its_line(content: bytes, tmp_path: Path) -> None:
    """File, line, key, and what to write."""
    file = tmp_path / "settings.yaml"
    file.write_bytes(content)

    assert outcome(file).startswith(f"{file}{ODD[content]}")


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    """Editors of other systems write one."""
    file = tmp_path / "settings.yaml"
    file.write_bytes(b"\xef\xbb\xbfrun: {timeout: 7}")

    assert load(file).run.timeout == 7


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("8", 8), ("+8", 8), ("010", 8), ("0x10", 16), ("0b11", 3), ("1_0", 10), ("yes", True)),
        *(("1.5", 1.5), ("~", None), ("", None), ("Off", False), ("2001-02-03", "2001-02-03")),
        *(("1:30", "1:30"), ("=", "="), ("!!str 5", "5"), ("'5'", "5"), (".5", 0.5)),
    ],
)
def test_core_values(text: str, value: object, tmp_path: Path) -> None:
    """What YAML's own loader makes of it, but that dates and sums of sixty are text."""
    from validator.settings import configfile

    file = tmp_path / "settings.yaml"
    file.write_text(f"run: {{a: {text}}}", encoding="utf-8")
    read = configfile.read(file).content["run"]["a"]

    assert (read, type(read)) == (value, type(value))
    if isinstance(value, (int, float)):
        assert read == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/dev/zero", "is a device"),
        ("/proc/kmsg", "is made up by the kernel"),
        ("/sys/kernel/tracing/trace_pipe", "is made up by the kernel"),
        ("/usr", "is a directory"),
        ("", "is a directory"),
        ("a\0b", "is no name of a file"),
        ("a\ud800", "is no name of a file"),
        ("/usr/" + "a" * 300, "File name too long"),
    ],
)
def test_what_is_no_regular_file_is_not_opened(place: str, kind: str) -> None:
    """It would be read for ever, or used up."""
    with pytest.raises(SettingsError, match=kind):
        load(Path(place))


@pytest.mark.timeout(20)
def test_a_pipe_without_a_writer_does_not_hang(tmp_path: Path) -> None:
    """Nor does one that takes the place of the file between two looks."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    plain = tmp_path / "plain"
    plain.touch()
    with pytest.raises(SettingsError, match="pipe: is a pipe; settings are a regular file"):
        load(pipe)
    with (
        mock.patch("validator.settings.configfile.Path.stat", return_value=plain.stat()),
        pytest.raises(SettingsError, match="pipe: is a pipe; settings are a regular file"),
    ):
        load(pipe)
