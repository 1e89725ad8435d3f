"""Slurm's scripts beside what does not keep to its part: commands, loggers, settings, jobs."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.deploy.slurm_lab import SCRIPTS
from tests.deploy.slurm_node import Node, document, sound
from tests.validator.reports import GPUS, result

pytestmark = pytest.mark.slow

FAIL = "fail: autograd on cuda:1: 3 of 9 elements wrong"
JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0"}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node that is well and idle; one clean run resumes it."""
    made = Node(tmp_path)
    made.set(RESUME_AFTER=1)
    yield made
    made.settle()


def says(node: Node, script: str) -> None:
    """What the command does in profile quick from now on."""
    (node.folder / "quick.sh").write_text(script)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, 15 s at most."""
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


# -- the command -----------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", [FAIL, "pass: 12 probes"])
@pytest.mark.parametrize("after", ["INFO:    Cleaning up image...", "libfoo error: late", ""])
def test_a_wrapper_may_have_the_last_word(node: Node, verdict: str, after: str) -> None:
    """A container's tool says good-bye on stderr: the verdict is still the one that was given."""
    code = int(verdict == FAIL)
    says(node, f"echo 'x {verdict} - 3.2 s'\necho '{after}' >&2\nexit {code}\n")

    assert node.run("prolog", **JOB).returncode == code
    assert f"job 7: {verdict}\n" in node.log


def test_a_worker_that_stays_holds_no_job_up(node: Node) -> None:
    """One in the driver cannot be killed, and has the output open for ever."""
    says(node, f"setsid sleep 30 &\necho $! >{node.folder}/worker\necho 'x {FAIL}'\nexit 1\n")
    began = time.monotonic()
    code = node.run("prolog", **JOB).returncode
    took = time.monotonic() - began
    os.kill(int((node.folder / "worker").read_text()), signal.SIGKILL)

    assert code == 1
    assert took < 10


@pytest.mark.parametrize("endless", ["yes", "yes 'x fail: a'", "tr '\\0' x </dev/zero"])
def test_output_without_an_end_is_bounded(node: Node, endless: str) -> None:
    """In lines or in one; the memory of this shell and its helpers is limited here to 512 MiB."""
    node.set(PROLOG_BUDGET_S=3)
    says(node, f"{endless}\n")
    done = subprocess.run(
        ["/bin/sh", "-c", f"ulimit -v 524288; exec /bin/sh {node.folder}/scripts/prolog"],
        env={"SLURMD_NODENAME": "n1", **JOB},
        capture_output=True,
        timeout=20,
        check=False,
    )

    assert done.returncode == int("fail" in endless)
    assert len(node.log) < 4000
    assert "fail: a\n" in node.log if "fail" in endless else "error: no verdict from" in node.log


@pytest.mark.parametrize("script", ["prolog", "healthcheck"])
def test_a_logger_that_hangs_holds_nothing_up(node: Node, script: str) -> None:
    """It waits for a syslog that takes nothing more."""
    (node.folder / "logger").write_text("#!/bin/sh\nexec sleep 30\n")
    node.quick(FAIL)
    began = time.monotonic()
    node.run(script, **JOB)

    assert time.monotonic() - began < 10
    assert script == "prolog" or node.state == "IDLE+DRAIN"


# -- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "verdict", "code", "state"),
    [
        ("prolog", "pass: 12 probes", 0, "IDLE"),
        ("prolog", "fail: matmul on cuda:0", 1, "IDLE"),
        ("healthcheck", "pass: 12 probes", 0, "IDLE"),
        ("healthcheck", "fail: matmul on cuda:0", 0, "IDLE+DRAIN"),
        ("epilog", "fail: matmul on cuda:0", 0, "IDLE"),
        ("idlecheck", "pass: 12 probes", 0, "IDLE"),
    ],
)
def test_a_folder_that_never_answers_holds_nothing_up(
    node: Node, dead_disk: Path, script: str, verdict: str, code: int, state: str
) -> None:
    """The verdict alone decides, and it is told that nothing is kept."""
    node.set(STATE_DIR=dead_disk / "kept", EPILOG_RUN="yes")
    node.quick(verdict)
    done = node.run(script, SLURM_JOB_GPUS="0")

    assert done.returncode == code
    assert node.state == state
    assert "RESUME" not in node.updates
    assert f"{dead_disk}/kept does not answer within 3 s" in node.log


def test_a_folder_that_dies_leaves_a_drained_node_as_it_is(node: Node, dead_disk: Path) -> None:
    """Neither resumed nor given another reason; when it is back, what was kept counts."""
    node.quick("fail: matmul on cuda:0")
    node.check()
    drained, node_reason = node.state, node.reason
    node.quick("pass: 12 probes")
    node.set(STATE_DIR=dead_disk / "kept", RESUME_AFTER=1)
    node.run("healthcheck")
    meanwhile = node.state, node.reason, node.standards
    node.set(RESUME_AFTER=1)
    node.check()

    assert meanwhile == (drained, node_reason, 0)
    assert node.state == "IDLE"


@pytest.mark.parametrize(
    "answer", ["exit 65", pytest.param("exec sleep 30", marks=pytest.mark.long)]
)
def test_a_folder_that_locks_nothing_hides_no_fail(node: Node, answer: str) -> None:
    """As Lustre without `-o flock`, and NFS: the verdict decides, and a drained node stays so."""
    common = node.folder / "scripts/common.sh"
    whole = common.read_text()
    (node.folder / "bin").mkdir()
    (node.folder / "bin/flock").write_text(f"#!/bin/sh\n{answer}\n")
    (node.folder / "bin/flock").chmod(0o755)
    common.write_text(whole.replace("PATH=/usr", f"PATH={node.folder}/bin:/usr", 1))
    node.kept.mkdir(mode=0o700)
    (node.kept / "idle.lock").touch()
    node.run("healthcheck")
    well = node.state
    node.quick(FAIL)
    node.run("healthcheck")
    drained, node_reason = node.state, node.reason
    node.quick("pass: 12 probes on 4 GPUs")
    node.run("healthcheck")
    node.run("idlecheck")

    assert (well, drained, node.state) == ("IDLE", "IDLE+DRAIN", "IDLE+DRAIN")
    assert node.reason == node_reason
    assert node.standards == 0
    assert f"{node.kept} cannot be locked: no node will be resumed" in node.log
    assert f"{node.kept} cannot be locked: nothing is checked" in node.log


def test_a_folder_that_is_read_only_is_told(node: Node) -> None:
    """The check of the idle node neither runs nor ends as a mishap."""
    node.kept.mkdir(mode=0o700)
    (node.kept / "idle.lock").mkdir()  # which root cannot write, either
    done = node.run("idlecheck")

    assert f"{node.kept} cannot be written: nothing is checked" in node.log
    assert "ended with" not in done.stderr
    assert node.standards == 0


def test_a_folder_that_cannot_be_opened_hides_no_fail(node: Node) -> None:
    """As of a server that takes root for nobody."""
    node.kept.mkdir(mode=0o300)
    node.quick(FAIL)
    rights = "-dac_override,-dac_read_search"
    bare = ["setpriv", "--inh-caps=-all", f"--bounding-set={rights}"] if not os.getuid() else []
    done = subprocess.run(
        [*bare, "/bin/sh", node.folder / "scripts/healthcheck"],
        env={"PATH": os.environ["PATH"], "SLURMD_NODENAME": "n1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    node.kept.chmod(0o700)
    if done.stderr.startswith("setpriv:"):
        pytest.skip("root may not give up its rights here")

    assert node.state == "IDLE+DRAIN"
    assert f"{node.kept} is no folder of ours: no node will be resumed" in node.log


def test_a_command_without_torch_never_runs(node: Node) -> None:
    """RUN=no holds as well where no daemon is asked: that torch is missing must drain nothing."""
    node.set(RUN="no", MAX_AGE="")
    node.quick("fail: torch_version on cpu: no torch")

    assert node.run("prolog", **JOB).returncode == 0
    assert not (node.folder / "calls").exists()


def test_settings_of_windows_do(node: Node) -> None:
    """A carriage return at each line's end is no part of a value."""
    settings = node.folder / "scripts/settings"
    settings.write_bytes(settings.read_bytes().replace(b"\n", b"\r\n"))
    node.quick(FAIL)
    code = node.run("prolog", **JOB).returncode
    node.check()
    drained = node.state
    node.quick("pass: 12 probes on 4 GPUs")
    node.check()

    assert (code, drained, node.state) == (1, "IDLE+DRAIN", "IDLE")


def test_settings_of_two_lines_do(node: Node) -> None:
    """All others have a default."""
    lines = (f"GPU_VALIDATOR={node.folder}/gpu-validator", f"STATE_DIR={node.kept}")
    (node.folder / "scripts/settings").write_text("\n".join(lines) + "\n")
    node.quick(FAIL)

    assert node.run("prolog", **JOB).returncode == 1


def values(node: Node, settings: str) -> dict[str, str]:
    """What the scripts go by with such a file, of what the shipped one names."""
    scripts = node.folder / "scripts"
    (scripts / "settings").write_text(settings)
    names = re.findall(r"(?m)^([A-Z_]+)=", (SCRIPTS / "settings").read_text())
    read = "".join(f". {scripts}/{name}\n" for name in ("settings", "state.sh", "defaults.sh"))
    told = "".join(f'printf "%s\\n" "{name}=${name}"\n' for name in names)
    done = subprocess.run(
        ["/bin/sh", "-uc", f'say() {{ printf "%s\\n" "said=$*"; }}\n{read}{told}'],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_what_is_left_out_is_what_stands_there(node: Node) -> None:
    """The file of settings tells each default, and every one is understood."""
    told = (SCRIPTS / "settings").read_text()
    shipped = values(node, told)

    assert len(shipped) > 25
    assert shipped == values(node, "")
    assert "said" not in shipped
    assert values(node, told + "ON_ERROR=drain\n") != shipped


@pytest.mark.parametrize(
    "given",
    [
        {"ON_FAIL": "Drain"},
        {"ON_FAIL": "stop"},
        {"PROLOG_BUDGET_S": "20 s"},
        {"PROLOG_BUDGET_S": ""},
        {"PROLOG_BUDGET_S": "1"},
        {"HEALTH_BUDGET_S": "1m", "PROLOG_BUDGET_S": "20s"},
        {"IDLE_BUDGET_S": "long"},
        {"RESUME_RELAPSES": "x"},
    ],
)
def test_a_word_too_many_turns_nothing_off(node: Node, given: dict[str, str]) -> None:
    """A fail drains all the same, and what is not understood is told."""
    node.set(**given)
    node.quick(FAIL)
    code = node.run("prolog", **JOB).returncode
    node.run("healthcheck")
    (name, value), *_ = given.items()
    understood = value in {"Drain", "1m"}

    assert (code, node.state) == (1, "IDLE+DRAIN")
    assert (f"settings: {name}={value} is not understood" in node.log) is not understood


def test_a_word_too_many_drains_nothing(node: Node) -> None:
    """An epilog that only looks, a command that must not run, an error that is none."""
    node.set(EPILOG_ON_FAIL="allow", MAX_AGE="15m")
    node.quick(FAIL)
    epilog = node.run("epilog", **JOB).returncode
    node.set(ON_ERROR="ignore", MAX_AGE="15m")
    node.quick("error: could not tell")
    prolog = node.run("prolog", **JOB).returncode
    node.set(RUN="never", MAX_AGE="15m")
    node.run("prolog", **JOB)

    assert (epilog, prolog) == (0, 0)
    assert "--no-run" in (node.folder / "calls").read_text().splitlines()[-1]
    assert "settings: RUN=never is not understood: taken for no" in node.log


@pytest.mark.parametrize("broken", ["A='x\n", "STATE_DIR=$NO_SUCH_VARIABLE\n", None])
@pytest.mark.parametrize("script", ["prolog", "epilog", "healthcheck", "idlecheck"])
def test_a_mishap_is_logged(node: Node, script: str, broken: str | None) -> None:
    """By the logger that is always there: slurmd shows nothing of a script that ends with 0."""
    for path in (node.folder / "scripts").iterdir():
        text = path.read_text().replace("/usr/bin/logger", f"{node.folder}/logger")
        path.write_text(text)
    if broken is None:
        (node.folder / "scripts/common.sh").unlink()
    else:
        (node.folder / "scripts/settings").write_text(broken)
    done = node.run(script, **JOB)

    assert done.returncode == 0
    assert node.log.startswith(f"-t gpu-validator-{script} -- ")
    assert node.log.count("\n") == 1


# -- the check of the idle node --------------------------------------------------------------


@pytest.mark.parametrize("ends", ["trap '' TERM; sleep 30", "trap 'exit 2' TERM; sleep 30 & wait"])
def test_what_gives_way_is_no_error(node: Node, ends: str) -> None:
    """Killed, or ended with any code: that a job came must not drain the node under it."""
    node.set(IDLE_EVERY="1h", ON_ERROR="drain")
    node.standard(sound(), before=ends)
    node.run("healthcheck")
    until((node.kept / "running").exists, "the check of the idle node runs")
    node.slurmctld(state="MIXED")
    code = node.run("prolog", **JOB).returncode
    node.settle()

    assert (code, node.state) == (0, "MIXED")
    assert "no verdict: ended for a job" in node.log


def test_a_job_that_came_first_is_seen(node: Node) -> None:
    """Its prolog was over before there was a check to end: slurmctld knows of the job."""
    node.standard(sound(), before="sleep 30 & trap 'kill $!; exit 143' TERM; wait")
    scontrol = node.folder / "scontrol"
    text = scontrol.read_text().replace("    exit 0\n", "    echo MIXED >state\n    exit 0\n", 1)
    scontrol.write_text(text)
    began = time.monotonic()
    node.run("idlecheck")

    assert time.monotonic() - began < 10
    assert "the node is MIXED: the check gives way" in node.log
    assert not (node.kept / "running").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_check_that_is_ended_by_hand_leaves_no_run(node: Node, number: int) -> None:
    """Else a second one would run beside it, and no prolog know of the first."""
    node.standard(sound(), before=f"echo $$ >{node.folder}/pid; exec sleep 30")
    check = subprocess.Popen(
        ["/bin/sh", node.folder / "scripts/idlecheck"],
        env={"SLURMD_NODENAME": "n1"},
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    until((node.kept / "running").exists, "it runs")
    until((node.folder / "pid").exists, "the command runs")
    until(lambda: "\n" in (node.folder / "pid").read_text(), "the command tells its number")
    run = int((node.folder / "pid").read_text())
    os.killpg(check.pid, number)
    check.wait(15)

    until(lambda: not Path(f"/proc/{run}").exists(), "the command ends, too")

    assert not (node.kept / "running").exists()


def test_a_drain_that_is_not_taken_is_told(node: Node) -> None:
    """Slurmctld answers and refuses."""
    scontrol = node.folder / "scontrol"
    scontrol.write_text(scontrol.read_text().replace("printf '%s\\n' \"$*\" >>updates", "exit 1"))
    node.quick(FAIL)
    node.run("healthcheck")

    assert f"{FAIL}; but slurmctld does not drain n1" in node.log


# -- a GPU that is gone ----------------------------------------------------------------------


def on(gpus: int, status: str = "pass") -> str:
    """A report of profile standard of so many GPUs."""
    return document([result("autograd", gpu.name, status) for gpu in GPUS[:gpus]])


@pytest.mark.parametrize("status", ["pass", "warn"])
@pytest.mark.parametrize("busy", ["on 1 GPU, 9 skipped, 9 for a busy GPU", "on 4 GPUs"])
def test_a_bad_gpu_that_vanished_is_not_well(node: Node, status: str, busy: str) -> None:
    """Nothing promises how many there are; but there were four, and three are clean now."""
    node.set(RESUME_AFTER=1, RESUME_WARN="yes")
    for said in ("pass: 12 probes on 4 GPUs", f"pass: 12 probes {busy}", FAIL):
        node.quick(said)
        node.check()
    node.quick("pass: 12 probes on 1 GPU")  # slurmd was told to show no more
    node.standard(on(3, status))
    node.check(2)
    lost = node.state
    node.standard(on(4, status))
    node.check()

    assert lost == "IDLE+DRAIN"
    assert "there were 4 GPUs" in node.log
    assert node.state == "IDLE"


def test_a_person_may_resume_a_node_with_less(node: Node) -> None:
    """What it has then is what it had."""
    node.quick("pass: 12 probes on 4 GPUs")
    node.check()
    node.quick(FAIL)
    node.check()
    node.slurmctld(state="IDLE", reason="")
    node.quick("pass: 12 probes on 3 GPUs")
    node.standard(on(3))
    node.check()
    node.quick(FAIL)
    node.check()
    node.quick("pass: 12 probes on 3 GPUs")
    node.check()

    assert node.state == "IDLE"


def test_cloud_init_checks_before_the_daemon_runs() -> None:
    """Two at once would call the GPUs busy, and a busy GPU keeps no node out."""
    path = SCRIPTS.parent / "cloud-init/gpu-node.yaml"
    commands = [" ".join(command) for command in yaml.safe_load(path.read_text())["runcmd"]]
    joins = commands.index("/usr/local/sbin/gpu-node-join")

    assert joins < commands.index("systemctl enable --now gpu-validator.service")
