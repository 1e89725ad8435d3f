"""When a drained node is resumed, and when not: the health check beside a made-up controller."""

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.slurm_node import Node, sound, wrong
from tests.validator.reports import result
from validator.report import NotRun

pytestmark = pytest.mark.slow

FAIL = "fail: autograd on cuda:1: 3 of 9 elements wrong"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node that is well and idle; two clean runs resume it."""
    made = Node(tmp_path)
    made.set(RESUME_AFTER=2)
    yield made
    made.settle()


def drained(node: Node) -> Node:
    """The node, drained by its health check and well again."""
    node.quick(FAIL)
    node.check()

    assert (node.state, node.reason) == ("IDLE+DRAIN", f"gpu-validator: {FAIL}")
    node.quick("pass: 12 probes")
    return node


def test_one_pass_resumes_nothing(node: Node) -> None:
    """It takes as many clean runs of profile standard as the settings say."""
    node.set(RESUME_AFTER=3)
    drained(node).check(2)
    before = (node.state, node.standards)
    node.check()

    assert before == ("IDLE+DRAIN", 2)
    assert (node.state, node.reason, node.standards) == ("IDLE", "", 3)
    assert "resumed: pass: " in node.log


@pytest.mark.parametrize("said", ["quick", "instant"])
def test_no_less_than_standard_resumes(node: Node, said: str) -> None:
    """Where the settings name another profile, it is said, and standard is run."""
    node.set(RESUME_AFTER=1, IDLE_PROFILE=said)
    drained(node).check()

    assert (node.state, node.standards) == ("IDLE", 1)
    assert f"settings: IDLE_PROFILE={said} is not understood: taken for standard" in node.log


def test_an_intermittent_gpu_stays_out(node: Node) -> None:
    """Fail, pass, fail, pass: a fail takes back what was clean before it."""
    drained(node)
    left = []
    for _ in range(3):
        node.check()
        left.append((node.state, node.standards))
        node.quick(FAIL)
        node.check()
        node.quick("pass: 12 probes")

    assert left == [("IDLE+DRAIN", 1), ("IDLE+DRAIN", 2), ("IDLE+DRAIN", 3)]
    assert "resumed" not in node.log


def test_a_fail_of_the_thorough_check_counts(node: Node) -> None:
    """Profile quick is content all the time; the reason says what standard found."""
    drained(node).check()
    node.standard(wrong())
    node.check()
    found = node.reason
    node.standard(sound())
    node.check()
    once = node.state
    node.check()

    assert found == "gpu-validator: fail: matmul on cuda:2: 3 of 9 elements wrong"
    assert once == "IDLE+DRAIN"
    assert node.state == "IDLE"


def test_clean_runs_take_their_time(node: Node) -> None:
    """Two within 20 s: one each 10 s at most, and none ends it before."""
    node.set(RESUME_AFTER=2, RESUME_WAIT="20s")
    drained(node).check(2)
    at_once = node.standards
    now = int(float(Path("/proc/uptime").read_text().split()[0]))
    node.edit("failed", now - 11)
    node.check(2)
    after_11 = (node.standards, node.state)
    node.edit("counted", now - 11)
    node.check()
    twice = (node.standards, node.state)
    node.edit("failed", now - 21)
    node.edit("counted", now - 11)
    node.check()

    assert at_once == 0
    assert after_11 == (1, "IDLE+DRAIN")
    assert twice == (2, "IDLE+DRAIN")
    assert re.search(r"clean 2 of 2 times, 1\d of 20 s", node.log)
    assert node.state == "IDLE"


def test_a_restart_begins_anew_and_forgets_nothing(node: Node) -> None:
    """What was clean before it does not count; the drain is still ours."""
    drained(node).check()
    node.edit("boot", "another")
    node.check()
    once = node.state
    node.check(2)

    assert once == "IDLE+DRAIN"
    assert node.state == "IDLE"


BUSY = result("matmul", "cuda:2", "skip", reason="gpu_busy", summary="2 processes hold it")
WARN = result("matmul", "cuda:2", "warn", reason="unproven", summary="1 of 2 unproven")
ABSENT = result("cuda_available", "cpu", "skip", reason="no_device", summary="no GPU here")


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (sound(BUSY), 0),
        (sound(WARN), 0),
        (sound(ABSENT), 0),
        (sound(not_run=[NotRun(probe="matmul", device="cuda:1", reason="run_timeout")]), 2),
        (sound()[:-200], 0),
        (sound(), 2),
        (sound(), 143),
        (wrong(), 0),
        ("", 0),
        ("Traceback (most recent call last):", 1),
    ],
)
def test_what_is_no_clean_run(node: Node, document: str, code: int) -> None:
    """A busy device, a warning, a probe without a chance, half a report: nothing counts."""
    node.set(RESUME_AFTER=1)
    drained(node)
    node.standard(document, code)
    node.check()

    assert node.standards == 1
    assert (node.state, node.reason) == ("IDLE+DRAIN", f"gpu-validator: {FAIL}")
    assert "clean 0\n" in (node.kept / "record").read_text()


def test_what_could_not_be_told_takes_nothing_back(node: Node) -> None:
    """Clean, error, clean: two clean runs."""
    drained(node).check()
    node.standard("", 2)
    node.check()
    node.standard(sound())
    node.check()

    assert node.state == "IDLE"


def test_a_site_may_live_with_a_warning(node: Node) -> None:
    """Where the settings say so."""
    node.set(RESUME_AFTER=2, RESUME_WARN="yes")
    drained(node)
    node.standard(sound(WARN))
    node.check(2)

    assert node.state == "IDLE"


@pytest.mark.parametrize(
    "touched",
    [
        {"reason": f"gpu-validator: {FAIL}; ticket 123"},
        {"reason": "gpu-validator: keep"},
        {"stamp": "anna@{now}"},
        {"stamp": "root@{later}"},
    ],
)
def test_a_reason_that_somebody_touched_stands(node: Node, touched: dict[str, str]) -> None:
    """Its text, who gave it or when is no longer ours: neither cleared nor renewed."""
    drained(node)
    now = int(time.time())
    given = {name: text.format(now=now, later=now + 60) for name, text in touched.items()}
    node.slurmctld(**given)
    before = node.reason
    node.check(3)
    well = (node.state, node.reason)
    node.quick("fail: something else")
    node.check()

    assert well == (node.state, node.reason) == ("IDLE+DRAIN", before)
    assert node.standards == 0
    assert "the node's reason is another's" in node.log


#: Jobs, maintenance, a reservation, a node that is down or off: others' affair.
NOT_OURS_TO_RESUME = (
    "DOWN+DRAIN",
    "MIXED+DRAIN",
    "IDLE+DRAIN+MAINTENANCE+RESERVED",
    "IDLE+DRAIN+POWERED_DOWN",
    "IDLE+DRAIN+NOT_RESPONDING",
    "IDLE+DRAIN+COMPLETING",
    "IDLE+DRAIN+REBOOT_REQUESTED",
    "IDLE+FAIL",
    "IDLE*+DRAIN",
)


def test_only_a_node_that_is_drained_and_idle(node: Node) -> None:
    """Nothing runs in any other state, and nothing is changed."""
    node.set(RESUME_AFTER=1)
    drained(node)
    left = []
    for state in NOT_OURS_TO_RESUME:
        node.slurmctld(state=state)
        node.check()
        left.append(node.state)
    runs = node.standards
    node.slurmctld(state="IDLE+DRAIN")
    node.check()

    assert (tuple(left), runs) == (NOT_OURS_TO_RESUME, 0)
    assert node.state == "IDLE"


def test_what_comes_back_waits_longer_and_in_the_end_for_a_person(node: Node) -> None:
    """Each return within a day of a resume doubles the time; after two a person must decide."""
    node.set(RESUME_AFTER=1, RESUME_WAIT="3s", RESUME_RELAPSES=2)
    for _ in range(2):
        drained(node)
        node.edit("failed", 1)
        node.check()

        assert node.state == "IDLE"
    waits = re.findall(r"of (\d+) s", node.log)
    node.quick(FAIL)
    node.check()
    node.quick("pass: 12 probes")
    node.edit("failed", 1)
    node.edit("resumed", int(time.time()) - 100000)  # by tomorrow, too
    node.check(2)

    assert waits == []
    assert node.state == "IDLE+DRAIN"
    assert node.reason.endswith("(came back 2 times in a day: resume by hand)")
    assert "held yes" in (node.kept / "record").read_text()

    node.slurmctld(state="IDLE", reason="")  # a person
    node.check()

    assert "held no" in (node.kept / "record").read_text()


def test_a_return_doubles_the_time(node: Node) -> None:
    """40 s in place of 20, and still 20 where the last resume is long ago."""
    node.set(RESUME_AFTER=1, RESUME_WAIT="20s")
    drained(node)
    now = int(float(Path("/proc/uptime").read_text().split()[0]))
    node.edit("failed", now - 21)
    with (node.kept / "record").open() as file:
        record = file.read()
    (node.kept / "record").write_text(record.replace("end\n", f"resumed {int(time.time())}\nend\n"))
    node.check()
    soon = (node.state, node.standards)
    node.edit("resumed", int(time.time()) - 90000)
    node.check()

    assert soon == ("IDLE+DRAIN", 0)
    assert node.state == "IDLE"


def test_slurmctld_goes_in_the_midst(node: Node) -> None:
    """It took the drain and died before it told of it: ours all the same, once it is back."""
    (node.controller / "dies").touch()
    drained(node)
    node.check(2)
    away = node.standards
    (node.controller / "down").unlink()
    node.check(2)

    assert away == 0
    assert node.state == "IDLE"


def test_slurmctld_does_not_take_a_new_reason(node: Node) -> None:
    """The old one is still ours."""
    drained(node)
    node.quick("fail: another")
    (node.controller / "down").touch()
    node.check()
    (node.controller / "down").unlink()
    node.quick("pass: 12 probes")
    node.check(2)

    assert node.state == "IDLE"


def test_a_node_without_a_folder_of_its_own_is_not_resumed(node: Node) -> None:
    """A link, or a folder that others write to: it is drained, and nothing in there is believed."""
    real = node.folder / "elsewhere"
    drained(node)
    node.kept.rename(real)
    node.kept.symlink_to(real)
    before = sorted(path.name for path in real.iterdir())
    node.check(3)
    linked = node.state
    node.kept.unlink()
    real.rename(node.kept)
    node.kept.chmod(0o777)
    node.check(3)
    opened = node.state
    node.slurmctld(state="IDLE", reason="")
    node.quick(FAIL)
    node.check()

    assert linked == opened == node.state == "IDLE+DRAIN"
    assert sorted(path.name for path in node.kept.iterdir()) == before
    node.kept.chmod(0o700)


def test_no_word_is_taken_from_a_folder_of_its_own_that_others_fill(node: Node) -> None:
    """A made-up word of our prolog would be the reason; what is there stays there."""
    real = node.folder / "elsewhere"
    real.mkdir()
    (real / "drained").write_text("fail: made up\nend\n")
    node.kept.symlink_to(real)
    node.slurmctld(state="IDLE+DRAIN", reason="Prolog error", stamp=f"slurm@{int(time.time())}")
    node.run("healthcheck")

    assert node.reason == "Prolog error"
    assert [path.name for path in real.iterdir()] == ["drained"]


def test_a_resume_that_cannot_be_written_down_is_none(node: Node) -> None:
    """Else a node could come back for ever, and nobody would count."""
    node.set(RESUME_AFTER=1)
    drained(node)
    node.standard(sound(), before=f"chmod 777 {node.kept}")
    node.check()
    node.kept.chmod(0o700)

    assert (node.state, node.standards) == ("IDLE+DRAIN", 1)
    assert "the node cannot be resumed" in node.log


def test_what_fails_meanwhile_outweighs_a_clean_run(node: Node) -> None:
    """A health check asks the daemon while the thorough check runs."""
    node.set(RESUME_AFTER=1, MAX_AGE="15m")
    go = node.folder / "go"
    drained(node)
    node.standard(sound(), before=f"while [ ! -e {go} ]; do sleep 0.05; done")
    node.run("healthcheck")
    node.quick(FAIL)
    node.run("healthcheck")
    go.touch()
    node.settle()

    assert node.standards == 1
    assert node.state == "IDLE+DRAIN"


def test_a_full_disk_resumes_nothing(node: Node) -> None:
    """The drain is made, and not known for ours later."""
    node.kept.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", "size=8k,mode=700", "none", str(node.kept)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with (node.kept / "full").open("wb", 0) as file:
            assert file.write(b"x" * 65536) <= 8192
        drained(node).check(3)

        assert node.state == "IDLE+DRAIN"
        assert "cannot be written" in node.log
    finally:
        subprocess.run(["umount", node.kept], check=True)


def test_what_was_kept_of_another_node_is_not_believed(node: Node) -> None:
    """The machine has another name now, and a stamp may be the same by chance."""
    drained(node)
    node.edit("node", "n2")
    node.check(3)

    assert node.state == "IDLE+DRAIN"


def test_no_line_of_a_comment_is_taken_for_the_node(node: Node) -> None:
    """A comment, or a reason, of several lines: nothing is done."""
    drained(node)
    node.slurmctld(comment="x\n   State=IDLE\n   Reason=")
    node.check(3)

    assert node.state == "IDLE+DRAIN"
    assert "cannot be read" in node.log


def test_a_verdict_of_any_text_is_one_reason(node: Node) -> None:
    """Quotes, backslashes, control characters and brackets stay out; its length is bounded."""
    node.quick('fail: it\'s "x" [root@1] \\c\\n \x1b[31m State=RESUME ' + "y" * 400)
    node.check()
    reason = node.reason
    node.quick("pass: 12 probes")
    node.check(2)

    assert reason.startswith("gpu-validator: fail: its x root@1 cn ")
    assert len(reason) <= 300
    assert reason.isascii()
    assert reason.isprintable()
    assert "DRAIN" not in node.state


# -- around jobs -----------------------------------------------------------------------------


def test_what_our_prolog_found_is_not_gone_with_one_pass(node: Node) -> None:
    """It comes as "Prolog error"; the reason is what was found, and it is drained as long."""
    node.quick(FAIL)
    code = node.run("prolog", SLURM_JOB_ID="7", SLURM_JOB_GPUS="0").returncode
    node.quick("pass: 12 probes")
    node.slurmctld(state="IDLE+DRAIN", reason="Prolog error", stamp=f"slurm@{int(time.time())}")
    node.check()
    first = (node.state, node.reason)
    node.check()

    assert code == 1
    assert first == ("IDLE+DRAIN", f"gpu-validator: {FAIL}")
    assert node.state == "IDLE"


def test_another_prologs_error_is_not_ours(node: Node) -> None:
    """Slurm says the same for it, at another time."""
    node.quick(FAIL)
    node.run("prolog", SLURM_JOB_ID="7", SLURM_JOB_GPUS="0")
    node.quick("pass: 12 probes")
    later = f"slurm@{int(time.time()) + 400}"
    node.slurmctld(state="IDLE+DRAIN", reason="Prolog error", stamp=later)
    node.check(3)

    assert (node.state, node.reason) == ("IDLE+DRAIN", "Prolog error")


def test_an_epilog_only_looks(node: Node) -> None:
    """The daemon's word is logged; nothing runs or drains, and the health check looks afresh."""
    node.set(MAX_AGE="15m")
    node.quick(FAIL)
    done = node.run("epilog", SLURM_JOB_ID="7", SLURM_JOB_GPUS="0")
    call = (node.folder / "calls").read_text()
    os.utime(node.kept / "noted", (time.time() - 77, time.time() - 77))
    node.quick("error: could not tell")
    node.run("healthcheck")
    kept = (node.kept / "noted").exists()
    node.quick("pass: 12 probes")
    node.run("healthcheck")
    node.run("healthcheck")
    ages = re.findall(r"--max-age (\S+)", (node.folder / "calls").read_text())

    assert done.returncode == 0
    assert "--no-run" in call
    assert f"gpu-validator-epilog --  job 7: {FAIL}" in node.log
    assert kept
    assert [ages[0], ages[3]] == ["15m", "15m"]
    assert re.fullmatch(r"7[7-9]s|8\ds", ages[1])
    assert re.fullmatch(r"7[7-9]s|8\ds", ages[2])
    assert node.state == "IDLE"


def test_around_a_job_the_controller_is_not_asked(node: Node) -> None:
    """It waits for a prolog, and would wait for itself; a health check does ask it."""
    node.set(EPILOG_ON_FAIL="drain")
    node.quick(FAIL)
    codes = [node.run(one, SLURM_JOB_ID="7", SLURM_JOB_GPUS="0") for one in ("prolog", "epilog")]
    around = (node.controller / "asked").exists()
    node.run("healthcheck")

    assert [done.returncode for done in codes] == [1, 1]
    assert not around
    assert "show node n1" in (node.controller / "asked").read_text()


@pytest.mark.parametrize("action", ["drain", "note"])
def test_what_an_epilog_finds_on_a_drained_node_counts(node: Node, action: str) -> None:
    """It was draining with a job; what was clean before is nothing."""
    node.set(RESUME_AFTER=2, EPILOG_ON_FAIL=action, EPILOG_RUN="yes")
    drained(node).check()
    node.quick(FAIL)
    node.run("epilog", SLURM_JOB_ID="7", SLURM_JOB_GPUS="0")
    node.quick("pass: 12 probes")
    node.check()
    once = node.state
    node.check()

    assert once == "IDLE+DRAIN"
    assert node.state == "IDLE"


def test_an_epilog_without_a_daemon_runs_nothing(node: Node) -> None:
    """But where it is told to."""
    node.run("epilog", SLURM_JOB_ID="7", SLURM_JOB_GPUS="0")
    asked = (node.folder / "calls").exists()
    node.set(EPILOG_RUN="yes")
    node.run("epilog", SLURM_JOB_ID="7", SLURM_JOB_GPUS="0")

    assert not asked
    assert (node.folder / "calls").exists()


def test_a_site_may_have_its_epilog_drain(node: Node) -> None:
    """As a prolog does."""
    node.set(EPILOG_ON_FAIL="drain")
    node.quick(FAIL)
    done = node.run("epilog", SLURM_JOB_ID="7", SLURM_JOB_GPUS="0")

    assert done.returncode == 1
    assert (node.kept / "drained").exists()


def test_the_check_of_an_idle_node_gives_way_to_a_job(node: Node) -> None:
    """The prolog ends it; what it had not told is nothing."""
    drained(node)
    node.standard(wrong(), before="sleep 30 & trap 'kill $!; exit 143' TERM; wait")
    node.run("healthcheck")
    deadline = time.monotonic() + 10
    while not (node.kept / "running").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    began = time.monotonic()
    code = node.run("prolog", SLURM_JOB_ID="7", SLURM_JOB_GPUS="0").returncode
    took = time.monotonic() - began
    node.settle()

    assert code == 0
    assert took < 5
    assert "gives way" in node.log
    assert node.reason == f"gpu-validator: {FAIL}"
    assert "no verdict: ended for a job" in node.log


def test_a_process_of_another_with_that_number_is_left_alone(node: Node) -> None:
    """The number was given again since."""
    node.kept.mkdir(mode=0o700)
    other = subprocess.Popen(["sleep", "30"])
    try:
        (node.kept / "running").write_text(f"{other.pid} 1\nend\n")
        node.run("prolog", SLURM_JOB_ID="7", SLURM_JOB_GPUS="0")

        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_one_health_check_at_a_time(node: Node) -> None:
    """The second of two ends at once, also where the disk is full."""
    (node.folder / "quick.sh").write_text("sleep 2\n")
    first = threading.Thread(target=node.run, args=["healthcheck"])
    first.start()
    calls = node.folder / "calls"
    deadline = time.monotonic() + 10
    while not calls.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    node.run("healthcheck")
    alone = calls.read_text().count("\n")
    first.join()

    assert alone == 1


# -- idle nodes ------------------------------------------------------------------------------


def test_an_idle_node_is_checked_now_and_then(node: Node) -> None:
    """Once within the time that the settings say, and a fail drains it."""
    node.check()
    never = node.standards
    node.set(IDLE_EVERY="1h")
    node.check(2)
    once = node.standards
    node.edit("idle", 1)
    node.standard(wrong())
    node.check()

    assert (never, once) == (0, 1)
    assert (node.state, node.reason) == (
        "IDLE+DRAIN",
        "gpu-validator: fail: matmul on cuda:2: 3 of 9 elements wrong",
    )


def test_no_node_that_somebody_wants(node: Node) -> None:
    """Neither in use, nor reserved, nor about to be used; nor by hand."""
    node.set(IDLE_EVERY="1h")
    for state in ("MIXED", "IDLE+RESERVED", "IDLE+PLANNED", "IDLE+MAINTENANCE", "DOWN"):
        node.slurmctld(state=state)
        node.check()
        node.run("idlecheck")

        assert f"nothing is checked: the node is {state}" in node.log
    assert node.standards == 0


def test_by_hand_a_node_is_checked_that_another_drained(node: Node) -> None:
    """It is told, and the reason stands."""
    node.slurmctld(state="IDLE+DRAIN", reason="new GPU (anna)", stamp="anna@1")
    node.run("idlecheck", SLURMD_NODENAME="")

    assert node.standards == 1
    assert "pass: " in node.log
    assert (node.state, node.reason) == ("IDLE+DRAIN", "new GPU (anna)")


def test_a_node_of_this_name_may_be_another_machine(node: Node) -> None:
    """From a timer there is only the host's name to ask by."""
    node.slurmctld(host="other")
    node.run("idlecheck", SLURMD_NODENAME="")

    assert node.standards == 0
    assert "is another machine, other" in node.log


def test_without_torch_here_the_daemons_own_is_asked_for(node: Node) -> None:
    """It must be of profile standard and newer than the fail."""
    node.set(RUN="no", MAX_AGE="15m", RESUME_AFTER=1)
    drained(node)
    now = int(float(Path("/proc/uptime").read_text().split()[0]))
    node.edit("failed", now - 50)
    node.check()
    call = (node.folder / "calls").read_text().splitlines()[-1]

    assert re.search(r"--profile standard .*--no-run --max-age 5\ds --server unix:", call)
    assert node.state == "IDLE"


def test_settings_of_an_older_release_do(node: Node) -> None:
    """What they do not know has a default."""
    settings = node.folder / "scripts/settings"
    names = "EXPECT_GPUS GPU_FILES EPILOG_ON_FAIL EPILOG_RUN RESUME_.* IDLE_.*".replace(" ", "|")
    settings.write_text(re.sub(rf"(?m)^({names})=.*\n", "", settings.read_text()))
    drained(node).check()

    assert node.state == "IDLE+DRAIN"
    assert node.standards == 0  # half an hour


@pytest.mark.parametrize(
    "bad",
    [{"RESUME_AFTER": "0"}, {"RESUME_AFTER": "x"}, {"RESUME_WAIT": "1h30m"}, {"RESUME": "no"}],
)
def test_settings_that_cannot_be_read_resume_nothing(node: Node, bad: dict[str, str]) -> None:
    """It is drained all the same."""
    node.set(**bad)
    drained(node).check(3)

    assert node.state == "IDLE+DRAIN"


# -- how many GPUs ---------------------------------------------------------------------------

GPUS_8 = "Name=gpu Type=h100 File=/dev/nvidia[0-7]"
SURE = [
    (GPUS_8, "gpu:h100:8(S:0-1)"),
    ("NodeName=n[1-4] Name=gpu File=/dev/nvidia[0-3,4-7]", "gpu:8"),
    ("NodeName=n[2-4]\\\n Name=gpu File=/dev/nvidia[0-3]\nNodeName=m,n1 " + GPUS_8, "gpu:8"),
    ("# all\nautodetect = nvml\nName=gpu Type=h100 # eight", "gpu:h100:8(S:0,1),shard:64"),
    ("AutoDetect=off\nNodeName=n1 AutoDetect=rsmi", "gpu:mi300x:8"),
    (f"{GPUS_8}\nName=mps Count=800 File=/dev/nvidia[0-7]", "gpu:8,mps:800"),
    ("Name=gpu File=/dev/dri/renderD[128-135]", "gpu:8"),
    (
        "Name=gpu Type=a File=/dev/nvidia[0-3]\nName=gpu Type=b Count=4 File=/dev/nvidia[4-7]",
        "gpu:a:4(S:0),gpu:b:4(S:1)",
    ),
    ("Include more.conf", "gpu:8"),
]
UNSURE = [
    ("", "gpu:8"),
    (GPUS_8, "(null)"),
    (GPUS_8, "gpu:4"),
    (GPUS_8, "gpu:1K"),
    (GPUS_8, "gpu:8,gpu:x:y:2"),
    ("Name=gpu Count=8", "gpu:8"),
    ("Name=gpu Count=8 Flags=CountOnly", "gpu:8"),
    ("AutoDetect=nvml", "gpu:1g.10gb:7"),
    ("AutoDetect=off\nName=gpu", "gpu:8"),
    ("Name=gpu MultipleFiles=/dev/nvidia0,/dev/nvidia-caps/nvidia-cap1", "gpu:1"),
    ("Name=gpu File=/dev/nvidia-caps/nvidia-cap[1-8]", "gpu:8"),
    ("Name=gpu File=/dev/null[0-7]", "gpu:8"),
    ("NodeName=n[2-9] " + GPUS_8, "gpu:8"),
    ("NodeName=n[1- " + GPUS_8, "gpu:8"),
    ("NodeName=n01 " + GPUS_8, "gpu:8"),
    ("Name=gpu Name=mps File=/dev/nvidia[0-7]", "gpu:8"),
    (GPUS_8 + " Count=16", "gpu:8"),
    ("Include missing.conf\n" + GPUS_8, "gpu:8"),
    ("Include %c.conf\n" + GPUS_8, "gpu:8"),
    ("Include gres.conf\n" + GPUS_8, "gpu:8"),
    (GPUS_8 + " garbage", "gpu:8"),
    (GPUS_8 + " \\", "gpu:8"),
]


def counted(node: Node, conf: str, gres: str) -> str:
    """The number that the health check would promise."""
    (node.folder / "gres.conf").write_text(conf + "\n")
    (node.folder / "more.conf").write_text(GPUS_8 + "\n")
    environment = {
        "node": "n1",
        "gres": gres,
        "folder": str(node.folder),
        "pattern": "^/dev/(nvidia[0-9]+|dri/renderD[0-9]+)$",
        "PATH": os.environ["PATH"],
    }
    program = node.folder / "scripts/gres.awk"
    done = subprocess.run(
        ["awk", "-f", program], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize(("conf", "gres"), SURE)
def test_gres_that_are_gpus(node: Node, conf: str, gres: str) -> None:
    """What slurmctld has is what gres.conf lists."""
    assert counted(node, conf, gres) == "8"


@pytest.mark.parametrize(("conf", "gres"), UNSURE)
def test_gres_that_may_be_something_else(node: Node, conf: str, gres: str) -> None:
    """Instances, counts without a device, another node's, what is not understood: no promise."""
    assert counted(node, conf, gres) == ""


def test_the_health_check_expects_the_nodes_gpus(node: Node) -> None:
    """In both profiles; a prolog judges the job's alone, and what the site says comes first."""
    node.slurmctld(gres="gpu:h100:8")
    (node.folder / "gres.conf").write_text(GPUS_8 + "\n")
    node.run("healthcheck")
    by_gres = node.promised()
    node.run("idlecheck", CUDA_VISIBLE_DEVICES="0")
    idle = node.promised("json")
    shown = "CUDA_VISIBLE" in (node.folder / "environment-json").read_text()
    node.run("prolog", SLURM_JOB_ID="7", SLURM_JOB_GPUS="0,3", GPU_VALIDATOR_EXPECT__GPUS="8")
    job = node.promised()
    node.run("healthcheck", GPU_VALIDATOR_EXPECT__GPUS="7")
    told = node.promised()
    node.set(EXPECT_GPUS="6")
    node.run("healthcheck")
    number = node.promised()
    node.set(EXPECT_GPUS="")
    node.run("healthcheck")
    nothing = node.promised()
    node.set()
    (node.folder / "driver/capabilities/gpu0/mig/gi3").mkdir(parents=True)
    node.run("healthcheck")

    assert (by_gres, idle, job, told, number) == ("8", "8", "auto", "7", "6")
    assert nothing is node.promised() is None
    assert not shown  # but all of it
    shutil.rmtree(node.folder / "driver")
    node.run("healthcheck", CUDA_VISIBLE_DEVICES="0")

    assert node.promised() is None
