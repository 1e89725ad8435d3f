"""What the image's build script does to a base, shown with interpreters that only write down."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "container.sh"

# Has torch, and pip, when its own text says so; pip's arguments and pins go to the file `calls`.
_INTERPRETER = f"""#!/bin/sh
case "$*" in
*find_spec*) exit $((! HAS_TORCH)) ;;
"-m pip --version") exit 0 ;;
"-m pip "*) echo "$* | constraint: ${{PIP_CONSTRAINT:-none}}" >>"$CALLS" ;;
*) exec '{sys.executable}' "$@" ;;
esac
"""


class Base:
    """A base image's PATH with the interpreters that a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("sh", "cat", "head", "mkdir", "chmod", "id", "rm"):
            (self.bin / name).symlink_to(str(shutil.which(name)))
        self.root = folder / "validator"
        self.calls = folder / "calls"

    def python(self, name: str, *, torch: bool) -> Path:
        """Add an interpreter."""
        path = self.bin / name
        path.write_text(_INTERPRETER.replace("HAS_TORCH", str(int(torch))))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def run(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run one action of the script."""
        return subprocess.run(
            ["/bin/sh", str(SCRIPT), *arguments],
            env={"PATH": str(self.bin), "CALLS": str(self.calls)} | variables,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def pip_calls(self) -> str:
        """What pip was asked."""
        return self.calls.read_text() if self.calls.exists() else ""


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """A base image without any Python on its PATH."""
    return Base(tmp_path)


def test_the_interpreter_with_torch_is_judged(base: Base) -> None:
    """Not the first one of the PATH."""
    base.python("python3", torch=False)
    python = base.python("python", torch=True)

    result = base.run("command", str(base.root))

    assert result.returncode == 0, result.stderr
    assert (base.root / "python").read_text() == f"{python}\n"
    assert f'exec "{python}"' in (base.root / "bin" / "gpu-validator").read_text()


def test_a_named_interpreter_wins(base: Base) -> None:
    """BASE_PYTHON is the user's word."""
    base.python("python3", torch=True)
    named = base.python("other", torch=True)

    base.run("command", str(base.root), BASE_PYTHON=str(named))

    assert (base.root / "python").read_text() == f"{named}\n"


def test_a_base_with_torch_keeps_it(base: Base) -> None:
    """Even where the Dockerfile's default asks for another one."""
    base.python("python3", torch=True)

    result = base.run("torch", "torch==2.13.0")

    assert result.returncode == 0
    assert base.pip_calls() == ""


def test_a_bare_base_gets_torch_and_numpy(base: Base) -> None:
    """From pip's own index, and an extra one only where the builder names it."""
    python = base.python("python3", torch=False)

    base.run("torch", "torch==2.13.0", "", BASE_PYTHON=str(python))
    base.run("torch", "torch==2.13.0", "https://cpu.example", BASE_PYTHON=str(python))

    asked = "-m pip install torch==2.13.0 numpy>=1.23"
    assert base.pip_calls().splitlines() == [
        f"{asked} | constraint: none",
        f"{asked} --extra-index-url https://cpu.example | constraint: none",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("torch==2.13.0", "https://me:s3cret@index.example/simple"),
        ("torch==2.13.0", "https://s3cret@index.example/simple"),
        ("torch @ https://me:s3cret@index.example/torch-2.13.0-cp311.whl",),
    ],
)
def test_a_token_in_a_build_argument_fails_the_build(
    base: Base, arguments: tuple[str, ...]
) -> None:
    """An argument stands in the history of every image that is pushed."""
    python = base.python("python3", torch=False)

    result = base.run("torch", *arguments, BASE_PYTHON=str(python))

    assert result.returncode == 2
    assert "docker history" in result.stderr
    assert "s3cret" not in result.stderr
    assert base.pip_calls() == ""


@pytest.mark.parametrize(
    "requirement",
    [
        "torch @ https://index.example/torch-2.13.0-cp311.whl",
        "torch @ git+https://git.example/torch@v2.13.0",
    ],
)
def test_a_torch_by_its_address_holds_no_token(base: Base, requirement: str) -> None:
    """Nor does the name of a version."""
    python = base.python("python3", torch=False)

    assert base.run("torch", requirement, "", BASE_PYTHON=str(python)).returncode == 0
    assert requirement in base.pip_calls()


def test_no_torch_anywhere_fails_the_build(base: Base) -> None:
    """An image that could only ever say "no torch" is a mistake at build time."""
    python = base.python("python3", torch=False)

    result = base.run("torch", "", BASE_PYTHON=str(python))

    assert result.returncode == 2
    assert "no Python of the base image has torch" in result.stderr


def test_our_libraries_go_to_a_folder_of_their_own(base: Base) -> None:
    """Nothing is compiled, nothing of the base changes, and its pins are not meant for us."""
    base.python("python3", torch=True)

    base.run("libraries", "/src", str(base.root), PIP_CONSTRAINT="/etc/pins.txt", PIP_USER="1")

    assert base.pip_calls() == (
        f"-m pip install --target {base.root} --only-binary=:all: /src | constraint: none\n"
    )


def test_an_old_python_fails_the_build(base: Base) -> None:
    """In one line that names it."""
    old = base.bin / "old"
    old.write_text('#!/bin/sh\ncase "$1" in --version) echo Python 3.8.1 ;; *) exit 1 ;; esac\n')
    old.chmod(0o755)

    result = base.run("command", str(base.root), BASE_PYTHON=str(old))

    assert result.returncode == 2
    assert "Python 3.10 or newer is needed" in result.stderr
    assert "Python 3.8.1" in result.stderr


def test_a_base_that_the_user_cannot_read_fails_the_build(base: Base) -> None:
    """A conda under /root, say, that only root may enter."""
    hidden = base.python("python3", torch=False)
    base.run("command", str(base.root), BASE_PYTHON=str(hidden))

    result = base.run("verify", str(base.root))

    assert result.returncode == 2
    assert f"user {os.getuid()} of the image cannot read the torch" in result.stderr
    assert "USER_ID=0" in result.stderr


def test_ours_stands_before_the_bases_python_path(base: Base) -> None:
    """A stray pydantic on the base's PYTHONPATH must not become ours."""
    python = base.python("python3", torch=True)
    base.run("command", str(base.root), BASE_PYTHON=str(python))
    program = base.root / "app" / "bin" / "gpu-validator"
    program.parent.mkdir(parents=True)
    program.write_text("import os; print(os.environ['PYTHONPATH'])")

    printed = subprocess.run(
        [str(base.root / "bin" / "gpu-validator")],
        env={"PATH": str(base.bin), "PYTHONPATH": "/opt/company"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert printed.strip() == f"{base.root}/app:{base.root}/lib:/opt/company"
