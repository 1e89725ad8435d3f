"""Units for systemd, cloud-init, CI: right by their own tools, each skipped by name without it."""

import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.validator.service.fake_runner import NOON
from validator.service import readyfile
from validator.service.connections import Limits, limits_here

DEPLOY = Path(__file__).parents[2] / "deploy"
COMMAND = "/opt/gpu-validator/bin/gpu-validator"
SERVICES = ("gpu-validator.service", "gpu-validator-check.service")


def told(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What a tool says, or a skip where it is not installed."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def units(folder: Path, *names: str) -> Sequence[str]:
    """Copies whose command exists, since verify looks for it."""
    for name in names:
        text = (DEPLOY / "systemd" / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace(COMMAND, "/bin/true"))
    return [f"./{name}" for name in names]


@pytest.mark.parametrize("name", [*SERVICES, "gpu-validator-check.timer"])
def test_systemd_understands_every_line(tmp_path: Path, name: str) -> None:
    """No unknown key, no value that cannot be, nothing missing."""
    units(tmp_path, *SERVICES)  # the timer's service must be beside it
    done = told("systemd-analyze", "verify", *units(tmp_path, name), cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_misspelt_key_is_seen(tmp_path: Path) -> None:
    """The check above can fail."""
    units(tmp_path, SERVICES[0])
    unit = tmp_path / SERVICES[0]
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHomes="))

    assert "ProtectHomes" in told("systemd-analyze", "verify", str(unit)).stderr


@pytest.mark.parametrize(("name", "most"), [(SERVICES[0], 2.0), (SERVICES[1], 1.2)])
def test_exposure(tmp_path: Path, name: str, most: float) -> None:
    """The tool's own score, from 0 (safe) to 10; a hardening that is lost raises it."""
    done = told(
        "systemd-analyze",
        "security",
        "--offline=yes",
        "--no-pager",
        *units(tmp_path, name),
        cwd=tmp_path,
    )
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)

    assert found is not None, done.stderr
    assert float(found[1]) <= most


def test_the_units_run_the_command_with_options_that_exist() -> None:
    """Of the command's own help."""
    for name in SERVICES:
        text = (DEPLOY / "systemd" / name).read_text(encoding="utf-8")
        started = re.search(rf"^ExecStart={COMMAND} (\w+)(.*)$", text, re.MULTILINE)
        assert started is not None
        shown = subprocess.run(
            [sys.executable, "-m", "validator", started[1], "--help"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for option in re.findall(r"--[\w.-]+", started[2]):
            assert option in shown


def test_the_daemon_may_have_descriptors_for_its_clients_and_its_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half of those that the unit allows are room for as many clients as there may ever be."""
    unit = (DEPLOY / "systemd" / SERVICES[0]).read_text(encoding="utf-8")
    [allowed] = re.findall(r"^LimitNOFILE=(\d+)$", unit, re.MULTILINE)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (int(allowed), int(allowed)))

    assert limits_here() == Limits()


def test_cloud_init_takes_the_file() -> None:
    """By its own schema."""
    done = told("cloud-init", "schema", "--config-file", str(DEPLOY / "cloud-init/gpu-node.yaml"))

    assert done.returncode == 0, done.stderr


def test_cloud_init_writes_the_unit_that_is_here() -> None:
    """One unit, not two that drift apart."""
    files = yaml.safe_load((DEPLOY / "cloud-init/gpu-node.yaml").read_text())["write_files"]
    content = {file["path"]: file["content"] for file in files}
    unit = (DEPLOY / "systemd" / SERVICES[0]).read_text(encoding="utf-8")

    assert content[f"/etc/systemd/system/{SERVICES[0]}"] == unit


@pytest.mark.parametrize(("verdict", "joined"), [(0, True), (1, False), (2, False)])
def test_a_node_joins_only_when_it_is_well(tmp_path: Path, verdict: int, joined: bool) -> None:  # noqa: FBT001
    """The script that cloud-init writes, run with stand-ins for what it calls."""
    files = yaml.safe_load((DEPLOY / "cloud-init/gpu-node.yaml").read_text())["write_files"]
    content = {Path(file["path"]).name: file["content"] for file in files}
    (tmp_path / "environment").write_text(content["environment"])
    script = content["gpu-node-join"].replace(COMMAND, f"{tmp_path}/gpu-validator")
    (tmp_path / "join").write_text(script.replace("/etc/gpu-validator", str(tmp_path)))
    for name, code in {"gpu-validator": verdict, "systemctl": 0, "logger": 0}.items():
        (tmp_path / name).write_text(
            f'#!/bin/sh\necho "{name} $*; $GPU_VALIDATOR_EXPECT__TORCH" >> {tmp_path}/log\n'
            f"exit {code}\n"
        )
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", str(tmp_path / "join")],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        timeout=10,
        check=False,
    )
    log = (tmp_path / "log").read_text()

    assert done.returncode == verdict
    assert "gpu-validator check --quiet --timeout 10m" in log
    assert ">=2.6,<3" in log
    assert ("systemctl enable --now slurmd" in log) is joined


# -- the ready file ------------------------------------------------------------------------------

READER = DEPLOY / "systemd" / "gpu-validator-ready"


def read(
    path: Path, *, shell: str = "/bin/sh", script: Path = READER
) -> "subprocess.CompletedProcess[str]":
    """What the reader says of a ready file."""
    return subprocess.run(
        [shell, script, path], capture_output=True, text=True, timeout=10, check=False
    )


def edited(path: Path, pattern: str, other: str) -> Path:
    """A ready file that counts, with one thing changed."""
    text = readyfile.text(NOON, "pass: 7 probes", 300)
    path.write_text(re.sub(pattern, other, text, flags=re.MULTILINE))
    return path


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_the_reader_believes_a_file_that_counts(tmp_path: Path, shell: str) -> None:
    """It says the verdict, as the command does."""
    path = edited(tmp_path / "ready", "", "")
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    done = read(path, shell=shell)

    assert (done.returncode, done.stdout, done.stderr) == (0, "pass: 7 probes\n", "")
    assert readyfile.objection(path) == ""


@pytest.mark.parametrize(
    ("pattern", "other", "why"),
    [
        (r"^until: .*", "until: {past}", "expired"),
        (r"^from: .*", "from: {ahead}", "the clock was changed"),
        (r"^until: .*", "until: {ahead}", "the clock was changed"),
        (r"^until: .*", "until: 99999999999999999999", "not to be believed"),
        (r"^until: .*\n", "", "until when it counts"),
        (r"^from: .*\n", "", "until when it counts"),
        (r"^until: .*", "until: -1", "until when it counts"),
        (r"^until: .*", "until: 9$(id)", "until when it counts"),
        (r"^by: .*\n", "", "until when it counts"),
        (r"^boot: .*", "boot: another", "before this node was started"),
        (r"(?s)\Aby.*|^2.*", "", "until when it counts"),
        (r"(?s).*", "", "until when it counts"),
    ],
)
def test_the_reader_believes_no_other(tmp_path: Path, pattern: str, other: str, why: str) -> None:
    """Expired, of another boot, beyond what a life can be, cut: as `healthcheck` has it."""
    now = int(time.time())
    other = other.format(past=now - 1, ahead=now + 86400)
    path = edited(tmp_path / "ready", pattern, other)
    done = read(path)

    assert (done.returncode, done.stdout) == (1, "")
    assert why in done.stderr
    assert readyfile.objection(path)


def test_the_reader_waits_for_nothing(tmp_path: Path) -> None:
    """No file, a folder, a pipe that nobody writes, a link to a file that counts."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(edited(tmp_path / "ready", "", ""))

    for path in (tmp_path / "none", tmp_path, pipe, link):
        assert read(path).returncode == 1


def test_the_reader_asks_a_dead_file_system_for_a_while(dead_disk: Path) -> None:
    """It answers in the 5 s that a prolog has for it."""
    done = read(dead_disk / "ready")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{dead_disk}/ready: no answer within 4 s\n"


def test_the_reader_needs_no_timeout(tmp_path: Path) -> None:
    """Where there is none it asks without a bound, as before."""
    path = edited(tmp_path / "ready", "", "")
    for name in ("head", "date", "cat", "sh"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = subprocess.run(
        ["/bin/sh", READER, path],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "pass: 7 probes\n", "")


def test_the_reader_may_come_by_a_pipe(tmp_path: Path) -> None:
    """As `ssh node sh -s FILE < gpu-validator-ready` sends it."""
    path = edited(tmp_path / "ready", "", "")
    done = subprocess.run(
        ["/bin/sh", "-s", path],
        input=READER.read_text(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "pass: 7 probes\n", "")


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_the_reader_says_a_verdict_as_it_is(tmp_path: Path, shell: str) -> None:
    """What `echo` of some shells makes of it begins no line and steers no terminal."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    verdict = r"warn: a\nready: yes \033[31m \c -n"
    path = tmp_path / "ready"
    path.write_text(readyfile.text(NOON, verdict, 300))
    here = read(path, shell=shell)
    path.unlink()
    gone = read(tmp_path / r"a\nb", shell=shell)

    assert here.stdout == f"{verdict}\n"
    assert gone.stderr == f"{tmp_path}/a\\nb: not there, or no regular file\n"


def test_a_unit_waits_for_the_ready_file(tmp_path: Path) -> None:
    """The drop-in names the reader, and systemd understands it."""
    drop_in = (DEPLOY / "systemd/needs-ready-gpus.conf").read_text(encoding="utf-8")
    condition = re.search(r"^ExecCondition=(\S+) (\S+)$", drop_in, re.MULTILINE)
    assert condition is not None
    assert Path(condition[1]).name == READER.name
    assert os.access(READER, os.X_OK)
    assert f"{condition[2]}\n" in drop_in.partition("FILES__READY=")[2]
    unit = tmp_path / "mine.service"
    unit.write_text(
        drop_in.replace(condition[1], "/bin/true")
        .replace("After=gpu-validator.service", "")
        .replace("[Service]", "[Service]\nType=oneshot\nExecStart=/bin/true")
    )
    done = told("systemd-analyze", "verify", str(unit))

    assert (done.returncode, done.stderr) == (0, "")


# -- CI ----------------------------------------------------------------------------------------

ENGINE = """#!/bin/sh
echo "$@" >> {log}
case $1 in
build) exit {build} ;;
run) echo '<testsuites/>'; exit {run} ;;
esac
"""


def validate(folder: Path, *arguments: str, build: int = 0, run: int = 0, gpus: str = "0") -> int:
    """Run the script with a stand-in for the engine; its exit code."""
    engine = folder / "engine"
    engine.write_text(ENGINE.format(log=folder / "log", build=build, run=run))
    engine.chmod(0o755)
    done = subprocess.run(
        [str(DEPLOY / "ci/validate-image.sh"), *arguments],
        env={**os.environ, "ENGINE": str(engine), "GPUS": gpus},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=10,
        check=False,
    )
    return done.returncode


@pytest.mark.parametrize(("run", "code"), [(0, 0), (1, 1), (2, 2), (125, 2), (127, 2), (137, 2)])
def test_the_verdict_on_an_image(tmp_path: Path, run: int, code: int) -> None:
    """The engine's own errors are no verdict; the stand-in image is removed in every case."""
    report = tmp_path / "report.xml"

    assert validate(tmp_path, "mine:1", str(report), run=run) == code
    assert report.read_text() == "<testsuites/>\n"
    log = (tmp_path / "log").read_text()
    assert "--build-arg BASE_IMAGE=mine:1 --build-arg TORCH= " in log
    assert "--network none --read-only" in log
    assert "--gpus" not in log
    assert "\nimage rm gpu-validator-ci:" in log


def test_an_image_that_cannot_be_built_upon(tmp_path: Path) -> None:
    """Could not tell; nothing runs."""
    assert validate(tmp_path, "mine:1", build=1) == 2
    assert "run " not in (tmp_path / "log").read_text()


def test_a_runner_with_gpus(tmp_path: Path) -> None:
    """It gets all of them, and promises their number."""
    assert validate(tmp_path, "mine:1", gpus="2") == 0
    assert "EXPECT__GPUS=2 --gpus all" in (tmp_path / "log").read_text()


def test_ci_files_call_the_script_before_the_push() -> None:
    """In both, and their YAML is sound."""
    for name in ("github-actions.yml", "gitlab-ci.yml"):
        text = (DEPLOY / "ci" / name).read_text(encoding="utf-8")
        yaml.safe_load(text)
        assert text.index("deploy/ci/validate-image.sh") < text.index("docker push")


def test_shellcheck_is_content() -> None:
    """The script for CI, and the reader of the ready file."""
    done = told("shellcheck", str(DEPLOY / "ci/validate-image.sh"), str(READER))

    assert done.stdout == ""
