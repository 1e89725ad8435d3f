"""The built image, in a real engine: `make image`, then `make test-container`."""

import functools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from validator.report import Report

pytestmark = [pytest.mark.container, pytest.mark.timeout(900)]

ENGINE = os.environ.get("ENGINE", "docker")
IMAGE = os.environ.get("VALIDATOR_TEST_IMAGE", "gpu-env-validator:local")
#: What a strict cluster does to a pod, and no GPU promised.
HARDENED = (
    *("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none"),
    *("--user=12345:0", "--tmpfs=/tmp", "--memory=2g", "--env=GPU_VALIDATOR_EXPECT__GPUS=0"),
)


def engine(*arguments: str, timeout: float = 600) -> "subprocess.CompletedProcess[str]":
    """Run one command of the engine."""
    return subprocess.run(
        [ENGINE, *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )


@functools.cache
def _why_not() -> str:
    if shutil.which(ENGINE) is None:
        return f"no container engine: {ENGINE} is not here"
    try:
        if engine("version", timeout=10).returncode:
            return f"no container engine answers {ENGINE}"
    except subprocess.TimeoutExpired:
        return f"no container engine answers {ENGINE} within 10 s"
    if engine("image", "inspect", IMAGE).returncode:
        return f"no image {IMAGE}: run `make image`"
    return ""


@pytest.fixture(autouse=True)
def _image() -> None:
    if reason := _why_not():
        pytest.skip(reason)


@pytest.fixture
def daemon() -> Iterator[str]:
    """The name of a container that serves, as hardened as it gets, after its first run."""
    name = f"gpu-validator-test-{os.getpid()}"
    started = engine("run", "--detach", "--name", name, *HARDENED, IMAGE)
    assert started.returncode == 0, started.stderr
    try:
        _until(lambda: "run_finished" in engine("logs", name).stderr, "the first run's end")
        yield name
    finally:
        engine("rm", "--force", name)


def _until(holds: Callable[[], bool], what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds} s"
        time.sleep(0.1)


#: In the container's own Python: process id, parent, state, command line of all that lives there.
_LIST = """
import json, os, pathlib, sys, time
def listed():
    found = []
    for folder in pathlib.Path('/proc').glob('[0-9]*'):
        try:
            state, parent = (folder / 'stat').read_text().rpartition(')')[2].split()[:2]
            line = (folder / 'cmdline').read_text().replace(chr(0), ' ')
        except OSError:
            continue
        if int(folder.name) != os.getpid():
            found.append((int(folder.name), int(parent), state, line))
    return found
"""

#: Kills so many workers with torch, each as soon as it and its children are so many processes. Its
#: last argument says that a worker is one without torch.
_KILL = """
kills, processes = map(int, sys.argv[1:])
print('ready', flush=True)
killed = set()
end = time.monotonic() + 240
while len(killed) < kills and time.monotonic() < end:
    workers = [one for one in listed() if 'import probes' in one[3] and one[3].endswith(' 0 ')]
    there = [pid for pid, *_ in workers]
    if len(there) >= processes and min(there) not in killed:
        killed.add(min(there))  # the worker itself: its children are younger
        os.kill(min(there), 9)
    time.sleep(0.005)
sys.exit(len(killed) < kills)
"""


def _processes(name: str) -> list[tuple[int, int, str, str]]:
    listed = engine("exec", name, "python3", "-c", f"{_LIST}print(json.dumps(listed()))")
    return [tuple(entry) for entry in json.loads(listed.stdout)]


def _configuration() -> dict[str, Any]:
    inspected: dict[str, Any] = json.loads(engine("image", "inspect", IMAGE).stdout)[0]["Config"]
    return inspected


def test_the_image_says_what_it_is() -> None:
    """Labels, revision, a numeric user, an init, a health check."""
    configuration = _configuration()
    labels = configuration["Labels"]
    environment = dict(entry.split("=", 1) for entry in configuration["Env"])

    assert labels["org.opencontainers.image.title"] == "gpu-env-validator"
    assert (
        labels["org.opencontainers.image.version"]
        in engine("run", "--rm", IMAGE, "--version").stdout
    )
    assert labels["org.opencontainers.image.created"]
    assert environment["VALIDATOR_IMAGE_REVISION"] == labels["org.opencontainers.image.revision"]
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert int(configuration["User"]) > 0
    assert configuration["Entrypoint"][0].endswith("/tini")
    assert configuration["Cmd"] == ["serve"]
    assert configuration["Healthcheck"]["Test"][-1] == "healthcheck"
    assert "8790/tcp" in configuration["ExposedPorts"]
    assert configuration["StopSignal"] == "SIGTERM"


def test_a_hardened_check_passes() -> None:
    """Read-only, no capability, no network, a uid that has no name: and the report is whole."""
    result = engine("run", "--rm", *HARDENED, IMAGE, "check", "--output", "json")
    report = Report.model_validate_json(result.stdout)

    assert result.returncode == 0, result.stderr
    assert report.status == "pass"
    assert (
        report.tool.revision
        == dict(entry.split("=", 1) for entry in _configuration()["Env"])[
            "VALIDATOR_IMAGE_REVISION"
        ]
    )


@pytest.mark.parametrize("option", ["--user=0:0", "--user=54321:54321", "--shm-size=1m"])
def test_the_check_passes_as_anybody_and_with_little_shared_memory(option: str) -> None:
    """As root and as a uid without a name; the last of two equal options counts."""
    assert engine("run", "--rm", *HARDENED, option, IMAGE, "check").returncode == 0


def test_a_container_too_small_for_torch_is_an_error_and_no_sick_node() -> None:
    """The kernel kills the worker for our own limit: exit code 2, and the limit is named."""
    result = engine("run", "--rm", *HARDENED, "--memory=128m", IMAGE, "check")

    assert result.returncode == 2, result.stdout
    assert "memory limit of this container" in result.stdout


def test_a_quota_under_which_nothing_ends_is_no_sick_node() -> None:
    """What is late for it is no hang: could not tell, and the quota is named."""
    result = engine("run", "--rm", *HARDENED, "--cpus=0.03", IMAGE, "check")

    assert result.returncode == 2, result.stdout + result.stderr
    assert "the CPU quota is 0.03 cores" in result.stdout


def test_without_even_a_temporary_folder_the_check_passes() -> None:
    """Nothing is written anywhere."""
    bare = [option for option in HARDENED if option != "--tmpfs=/tmp"]

    assert engine("run", "--rm", *bare, IMAGE, "check").returncode == 0


def test_a_container_without_a_gpu_is_no_healthy_gpu_node() -> None:
    """The image promises one GPU until it is told otherwise."""
    promised = [option for option in HARDENED if "EXPECT" not in option]
    result = engine("run", "--rm", *promised, IMAGE, "check", "--output", "json")
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU")
    failed = [
        entry.probe
        for entry in Report.model_validate_json(result.stdout).results
        if entry.status == "fail"
    ]

    assert result.returncode == 1
    assert failed == ["cuda_available", "telemetry"]


def test_no_compiler_is_left_inside() -> None:
    """Nor any leftover of the build."""
    shell = "command -v gcc cc g++ make ld; ls /src /tmp/pip 2>/dev/null; true"

    assert engine("run", "--rm", "--entrypoint", "/bin/sh", IMAGE, "-c", shell).stdout == ""


def test_what_judges_is_apart_from_what_is_judged() -> None:
    """The base's Python has none of our packages; in our process ours win, torch is its own."""
    code = (
        "import pydantic, probes, torch; print(pydantic.__file__, probes.__file__, torch.__file__)"
    )
    ours = "PYTHONPATH=/opt/gpu-validator/app:/opt/gpu-validator/lib "
    python = "$(cat /opt/gpu-validator/python)"
    seen = engine(
        "run", "--rm", "--entrypoint", "/bin/sh", IMAGE, "-c", f"{ours}{python} -c '{code}'"
    )
    listed = engine(
        "run", "--rm", "--entrypoint", "/bin/sh", IMAGE, "-c", f"{python} -c 'import probes'"
    )
    pydantic, probes, torch = seen.stdout.split()

    assert pydantic.startswith("/opt/gpu-validator/lib/")
    assert probes.startswith("/opt/gpu-validator/app/")
    assert not torch.startswith("/opt/gpu-validator/")
    assert "ModuleNotFoundError" in listed.stderr


def test_the_daemon_answers_and_ends_on_a_signal(daemon: str) -> None:
    """Healthy by its own health check; SIGTERM through the init ends it with 0, well in time."""
    assert engine("exec", daemon, "gpu-validator", "healthcheck").returncode == 0

    started = time.monotonic()
    engine("kill", "--signal=TERM", daemon)
    state = engine("wait", daemon, timeout=30).stdout.strip()

    assert state == "0"
    assert time.monotonic() - started < 10
    assert engine("run", "--rm", *HARDENED, IMAGE, "healthcheck").returncode != 0


def test_between_runs_there_is_the_init_and_the_daemon(daemon: str) -> None:
    """No worker is kept, no zombie is left."""
    _until(lambda: len(_processes(daemon)) == 2, "the worker's end")
    (_, _, _, init), (_, parent, _, served) = sorted(_processes(daemon))

    assert "tini" in init
    assert parent == 1
    assert "gpu-validator serve" in served


def test_an_orphan_is_reaped(daemon: str) -> None:
    """A process whose parent is gone becomes the init's, and no zombie when it ends."""
    # Its output is closed, or the engine would wait for it.
    command = "sleep 0.2 >/dev/null 2>&1 & echo $!"
    orphan = int(engine("exec", daemon, "/bin/sh", "-c", command).stdout)

    _until(lambda: orphan not in {pid for pid, *_ in _processes(daemon)}, "its burial")


#: How often the worker is killed, when (as soon as there are so many processes of it), and the end.
KILLS = {
    "while it imports torch": (1, 1, 0),
    "each time while it imports torch": (2, 1, 2),
    "amid its probes": (1, 2, 0),
}


@pytest.mark.parametrize(("kills", "processes", "code"), KILLS.values(), ids=KILLS)
def test_a_killed_worker_is_no_sick_node(
    daemon: str, kills: int, processes: int, code: int
) -> None:
    """SIGKILL once: what was under way is tried once more; each time: could not tell, no fail."""
    _until(lambda: len(_processes(daemon)) == 2, "the end of the daemon's own worker")
    killer = [ENGINE, "exec", daemon, "python3", "-c", f"{_LIST}{_KILL}"]
    with subprocess.Popen(
        [*killer, str(kills), str(processes)], stdout=subprocess.PIPE, text=True
    ) as killing:
        assert killing.stdout is not None
        assert killing.stdout.readline() == "ready\n"
        check = engine("exec", daemon, "gpu-validator", "check", "--quiet", timeout=300)
        assert killing.wait(timeout=300) == 0
    output = check.stdout + check.stderr

    assert check.returncode == code, output
    assert ("the worker died by SIGKILL" in output) == (code == 2)
    _until(lambda: len(_processes(daemon)) == 2, "the end of all that the check started")
    assert engine("exec", daemon, "gpu-validator", "healthcheck").returncode == 0
