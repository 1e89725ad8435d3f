"""The Makefile's environment: what it installs, and the one line that it says when it cannot."""

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tools" / "environment.sh"
_FOR_TORCH = ("PYTHON", "VENV", "TORCH", "TORCH_INDEX", "CPU_INDEX", "MAKEFLAGS", "MFLAGS")

# Answers pip and the hardware question itself, from variables; everything else is the real thing.
_INTERPRETER = """#!/bin/sh
case "$*" in
"-m pip --version") ;;
"-m pip "*)
    echo "$*" >>"$CALLS"
    case "$*" in *"${PIP_LACKS:-nothing}"*) exit 1 ;; esac
    [ -z "${PIP_ERROR:-}" ] || { echo "ERROR: $PIP_ERROR" >>"$VENV/install.log"; exit 1; }
    exit 0 ;;
*probes.node.hardware*) echo "${GPUS:-}" ;;
*importlib.metadata*) echo "${TORCH_HERE:-}" ;;
*) exec "$REAL" "$@" ;;
esac
"""

# The disk of the tests may be small: they say how much room there is.
_DF = """#!/bin/sh
echo Filesystem 1024-blocks Used Available Capacity Mounted on
echo "/dev/root 500000000 1 $((${FREE_GB:-100} * 1048576)) 1% /"
"""


class Environment:
    """A virtual environment whose pip only writes down what it was asked."""

    def __init__(self, folder: Path, cpu_index: str) -> None:
        self.venv = folder / "venv"
        self.calls = folder / "calls"
        _program(self.venv / "bin" / "python", _INTERPRETER)
        tools = _program(folder / "tools" / "df", _DF).parent
        inherited = {name: text for name, text in os.environ.items() if name not in _FOR_TORCH}
        self.variables = inherited | {
            "PATH": f"{tools}{os.pathsep}{inherited['PATH']}",
            "VENV": str(self.venv),
            "CALLS": str(self.calls),
            "REAL": sys.executable,
            "CPU_INDEX": cpu_index,
        }

    def make(self, what: str = "run", **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run the script and wait for its end."""
        return subprocess.run(
            ["/bin/sh", str(SCRIPT), what],
            env=self.variables | variables,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def installs(self) -> list[str]:
        """What pip was asked to install or remove, one line a call; and forget it."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return [match[1] for line in lines if (match := re.search(r" ((?:un)?install .*)$", line))]


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


class _Index(BaseHTTPRequestHandler):
    """An index that has whatever it is asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.fixture
def index() -> Iterator[str]:
    """The address of an index that can be reached."""
    server = HTTPServer(("127.0.0.1", 0), _Index)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/cpu"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def silence() -> Iterator[str]:
    """The address of a firewall: takes the connection, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/cpu"


@pytest.fixture
def environment(tmp_path: Path, index: str) -> Environment:
    """An environment without torch on a machine without a GPU, whose CPU index can be reached."""
    return Environment(tmp_path, index)


def test_without_a_gpu_the_cpu_build_is_preferred(environment: Environment, index: str) -> None:
    """The CPU index is an extra one: the usual index still serves everything else."""
    result = environment.make()

    assert result.returncode == 0, result.stderr
    assert environment.installs() == [
        "install --quiet --editable .",
        f"install --quiet torch==2.13.0 numpy>=1.23 --extra-index-url {index}",
    ]


def test_with_a_gpu_the_plain_build_is_taken(environment: Environment) -> None:
    """The CPU index would win over CUDA's build: a local version sorts after a plain one."""
    environment.make(GPUS="nvidia")

    assert environment.installs()[1:] == ["install --quiet torch==2.13.0 numpy>=1.23"]


@pytest.mark.parametrize("address", ["silence", "http://127.0.0.1:9/refused", "http://x.invalid"])
def test_an_index_out_of_reach_neither_stalls_nor_fails(
    environment: Environment, address: str, request: pytest.FixtureRequest
) -> None:
    """It is left out, in one line, within the 30 s that a run may take here."""
    url = request.getfixturevalue("silence") if address == "silence" else address

    result = environment.make(CPU_INDEX=url)

    assert result.returncode == 0
    assert environment.installs()[1:] == ["install --quiet torch==2.13.0 numpy>=1.23"]
    assert [line for line in result.stderr.splitlines() if "cannot be reached" in line]


def test_an_index_that_the_user_names_is_used_on_any_machine(environment: Environment) -> None:
    """ROCm's builds, say, come from an index of their own."""
    environment.make(GPUS="amd", TORCH_INDEX="https://mirror.example/rocm")

    assert environment.installs()[1].endswith("--extra-index-url https://mirror.example/rocm")


def test_a_cpu_build_is_replaced_once_there_is_a_gpu(environment: Environment) -> None:
    """2.13.0+cpu satisfies torch==2.13.0, so pip alone would leave it."""
    environment.make(TORCH_HERE="2.13.0+cpu")
    assert environment.installs()[1:] == ["install --quiet numpy>=1.23"]

    environment.make(TORCH_HERE="2.13.0+cpu", GPUS="nvidia")

    assert environment.installs()[1:] == [
        "uninstall --quiet --yes torch",
        "install --quiet torch==2.13.0 numpy>=1.23",
    ]


@pytest.mark.parametrize(
    ("free_gb", "variables"),
    [("1", {}), ("9", {"GPUS": "nvidia"}), ("9", {"GPUS": "nvidia", "TORCH_HERE": "2.13.0+cpu"})],
    ids=["cpu", "gpu", "gpu beside a CPU build"],
)
def test_too_little_room_is_one_line(
    environment: Environment, free_gb: str, variables: dict[str, str]
) -> None:
    """It says what is needed and what is there, before anything is removed."""
    result = environment.make(FREE_GB=free_gb, **variables)

    assert result.returncode == 2
    assert f"{free_gb} GB are free" in result.stderr.splitlines()[-1]
    assert environment.installs() == ["install --quiet --editable ."]
    assert environment.make(FREE_GB="10", **variables).returncode == 0


def test_the_torch_that_is_there_is_kept_when_none_is_asked_for(environment: Environment) -> None:
    """`make validate TORCH=` judges what the user has."""
    environment.make(TORCH="")

    assert environment.installs() == ["install --quiet --editable ."]


def test_a_second_run_installs_nothing(environment: Environment) -> None:
    """And a change of the requirement, or of the hardware, installs again."""
    environment.make()
    environment.installs()

    assert environment.make().stderr == ""
    assert environment.installs() == []
    assert environment.make(TORCH="torch==2.12.0").returncode == 0
    assert environment.installs() != []
    assert environment.make(TORCH="torch==2.12.0", GPUS="nvidia").returncode == 0
    assert environment.installs() != []


def test_what_the_tests_need_comes_on_top(environment: Environment) -> None:
    """`dev` holds all of `run`; the dependency groups need a pip that knows them."""
    environment.make("dev")

    assert environment.installs()[2:] == [
        "install --quiet pip>=25.1",
        "install --quiet --group test --group lint",
        "install --quiet --group kernels",
    ]
    environment.make("run")
    assert environment.installs() == []


def test_the_tests_go_without_the_compiler_of_kernels(environment: Environment) -> None:
    """Its wheel is not made for every machine: that is said, and nothing fails."""
    result = environment.make("dev", PIP_LACKS="--group kernels")

    assert result.returncode == 0
    assert "no test compiles our kernels" in result.stderr
    assert environment.make("dev").stderr == ""


@pytest.mark.parametrize("build", ["2.13.0+cpu", "2.13.0"])
def test_the_model_libraries_leave_torch_as_it_is(
    environment: Environment, index: str, build: str
) -> None:
    """What is there is named to pip, its build too; `corpus` holds all of `dev`."""
    environment.make("corpus", TORCH_HERE=build)

    assert environment.installs()[3:] == [
        "install --quiet --group test --group lint",
        "install --quiet --group kernels",
        f"install --quiet --group corpus torch=={build} --extra-index-url {index}",
    ]
    environment.make("dev")
    assert environment.installs() == []


def test_the_model_libraries_are_for_one_torch(environment: Environment) -> None:
    """Beside another one they are left out, and that is said."""
    result = environment.make("corpus", TORCH="", TORCH_HERE="2.14.1", GPUS="nvidia")

    assert result.returncode == 0
    assert "their programs are left out" in result.stderr
    assert not [line for line in environment.installs() if "corpus" in line]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("[Errno 28] No space left on device", "no space left on the disk"),
        ("NewConnectionError('...')", "the package index cannot be reached"),
        ("No matching distribution found for torch==99", "No matching distribution found"),
    ],
)
def test_a_failed_install_is_one_line(environment: Environment, error: str, line: str) -> None:
    """It names the cause and the log, fails, and leaves no stamp that the next run would trust."""
    result = environment.make(PIP_ERROR=error)

    assert result.returncode == 2
    assert line in result.stderr.splitlines()[-1]
    assert environment.make().returncode == 0
    assert len(environment.installs()) > 1


def test_a_missing_interpreter_is_one_line(environment: Environment, tmp_path: Path) -> None:
    """No traceback, no shell error."""
    result = environment.make(VENV=str(tmp_path / "new"), PYTHON="/nowhere/python")

    assert result.returncode == 2
    assert result.stderr == "environment: PYTHON=/nowhere/python is not there\n"


def test_an_old_interpreter_is_one_line(environment: Environment, tmp_path: Path) -> None:
    """It names what was found and what is needed."""
    old = '#!/bin/sh\ncase "$1" in --version) echo Python 3.9.2 ;; *) exit 1 ;; esac\n'
    python = _program(tmp_path / "old", old)

    result = environment.make(VENV=str(tmp_path / "new"), PYTHON=str(python))

    assert result.returncode == 2
    assert result.stderr.startswith("environment: Python 3.10 or newer is needed; Python 3.9.2 is")


def test_a_newer_interpreter_beside_an_old_python3_is_found(
    environment: Environment, tmp_path: Path
) -> None:
    """Where the distribution's python3 is too old but another one was installed."""
    tools = tmp_path / "bin"
    for name in ("sh", "dirname"):
        _program(tools / name, f'#!/bin/sh\nexec {shutil.which(name)} "$@"\n')
    _program(tools / "python3", "#!/bin/sh\nexit 1\n")
    newer = (
        f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; *) exec {sys.executable} "$@" ;; esac\n'
    )
    _program(tools / "python3.12", newer)

    result = environment.make(PATH=str(tools), VENV=str(tmp_path / "new"))

    assert "python3.12 cannot make a virtual environment" in result.stderr


def test_a_python_without_venv_names_the_package(environment: Environment, tmp_path: Path) -> None:
    """Debian and Ubuntu ship Python without ensurepip."""
    bare = f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; *) exec {sys.executable} "$@" ;; esac\n'
    python = _program(tmp_path / "bare", bare)

    result = environment.make(VENV=str(tmp_path / "new"), PYTHON=str(python))

    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert result.returncode == 2
    assert f"apt-get install python{version}-venv" in result.stderr
    assert not (tmp_path / "new").exists()


def test_an_environment_that_is_not_ours_is_never_replaced(
    environment: Environment, tmp_path: Path
) -> None:
    """A broken one without our mark is the user's to remove; with it, it is made anew."""
    theirs = tmp_path / "theirs"
    (theirs / "bin").mkdir(parents=True)
    (theirs / "precious").touch()

    result = environment.make(VENV=str(theirs))

    assert result.returncode == 2
    assert "remove it or set VENV" in result.stderr
    assert (theirs / "precious").exists()


def test_every_target_is_documented() -> None:
    """`make help` is the list of all targets."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not here")
    listed = subprocess.run(
        [make, "-C", str(ROOT), "--no-print-directory", "help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert targets is not None
    assert re.findall(r"^  make ([a-z-]+)", listed, re.MULTILINE) == targets[1].split()
