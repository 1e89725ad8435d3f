"""What the command begins with: folders of the user's that bear our names, or Python's."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[3]
#: Ours is found after PYTHONPATH, as what is installed is.
PROGRAM: Final = (
    f"import sys; sys.path.append({str(ROOT)!r}); sys.argv[0] = 'gpu-validator'; "
    "from gpu_env_validator import main; sys.exit(main())"
)


def begun(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run the command as it is installed, with a folder on PYTHONPATH."""
    return subprocess.run(
        [sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", "-c", PROGRAM, *argv],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )


@pytest.mark.parametrize("name", ["validator", "validator/cli", "probes"])
def test_a_package_of_the_users_with_our_name_is_left_alone(tmp_path: Path, name: str) -> None:
    """Ours is found before it, and what is checked still is."""
    package = tmp_path / name
    package.mkdir(parents=True)
    for folder in (package, *package.parents):
        if folder.is_relative_to(tmp_path) and folder != tmp_path:
            (folder / "__init__.py").write_text("raise SystemExit(1)\n", encoding="utf-8")
    ended = begun(tmp_path, "list")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "tensor_ops" in ended.stdout


@pytest.mark.parametrize(
    ("more", "code"),
    [([], 2), (["--fail-open"], 0), (["--exit-style", "nagios"], 3)],
)
@pytest.mark.parametrize("how", ["raise SystemExit(1)", "raise ImportError('not whole')"])
def test_a_library_that_ends_the_program_is_no_verdict(
    tmp_path: Path, how: str, more: list[str], code: int
) -> None:
    """A `typing_extensions.py` of the user's that exits with 1: could not tell."""
    (tmp_path / "typing_extensions.py").write_text(how, encoding="utf-8")
    for command in ("check", "burn"):
        ended = begun(tmp_path, command, *more)

        assert ended.returncode == code, ended.stderr
        assert ended.stderr.startswith("gpu-validator: ")
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", ["check", "healthcheck", "list"])
@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
def test_it_is_none_where_it_cannot_be_told(tmp_path: Path, command: str, stderr: str) -> None:
    """Stderr is closed, or on a full disk."""
    (tmp_path / "typing_extensions.py").write_text("raise SystemExit(1)", encoding="utf-8")
    run = [sys.executable, "-s", "-c", PROGRAM, command]
    ended = subprocess.run(
        ["/bin/sh", "-c", f"{shlex.join(run)} {stderr}"],
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )

    assert ended.returncode == 2
