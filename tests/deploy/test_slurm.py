"""Prolog, epilog and health check in a real Slurm of one node: run, drain, bound, recover."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.slurm_lab import SCRIPTS, Cluster, skip_unless_possible, until
from tests.validator.reports import GPUS, node, recent
from validator.engine.plan import make_plan
from validator.settings.model import Settings

pytestmark = pytest.mark.lab

STANDARD = make_plan(Settings.model_validate({"run": {"profile": "standard"}}), "cli").specs
SICK = {"status": "fail", "reason": "check_failed", "summary": "3 of 9 elements wrong"}
LOST = {"status": "error", "reason": "internal_error", "summary": "no verdict"}


@pytest.fixture(scope="module")
def quiet_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Prolog and epilog alone."""
    yield from _cluster(tmp_path_factory.mktemp("slurm"), health_s=0)


@pytest.fixture(scope="module")
def watched_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """With a health check each second, as often as slurmctld will have it."""
    yield from _cluster(tmp_path_factory.mktemp("watched"), health_s=1)


def _cluster(folder: Path, *, health_s: int) -> Iterator[Cluster]:
    skip_unless_possible()
    cluster = Cluster(folder)
    cluster.command()
    tell(cluster)
    try:
        cluster.start(health_s=health_s)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(quiet_cluster: Cluster) -> Iterator[Cluster]:
    """Idle and healthy, whatever the test before did."""
    quiet_cluster.set()
    quiet_cluster.command()
    quiet_cluster.daemon.hang.clear()
    tell(quiet_cluster)
    yield quiet_cluster
    quiet_cluster.install()
    quiet_cluster.resume()


@pytest.fixture
def watched(watched_cluster: Cluster) -> Iterator[Cluster]:
    """The same, with health checks, by the daemon's word alone."""
    watched_cluster.set(RUN="no")
    tell(watched_cluster)
    yield watched_cluster
    tell(watched_cluster)
    watched_cluster.resume()


def tell(cluster: Cluster, **changed: dict[str, Any]) -> None:
    """What the daemon reports from now on; `autograd_0=SICK` is of cuda:0."""
    named = {re.sub(r"_(\d)$", r" on cuda:\1", name): fields for name, fields in changed.items()}
    cluster.daemon.report = json.loads(recent(node(named, STANDARD)))


def runs(cluster: Cluster, *options: str) -> str:
    """The GPUs that a job got, once it ran."""
    ran = cluster.submit(*(options or ("--gres=gpu:1",)))
    until(lambda: ran.exists() and bool(ran.read_text()), "the job runs")
    return ran.read_text().strip()


def drains(cluster: Cluster, *options: str) -> str:
    """The reason for which the node is drained, which must be before the job runs."""
    ran = cluster.submit(*(options or ("--gres=gpu:1",)))
    until(lambda: "DRAIN" in cluster.state(), "the node drains")

    assert not ran.exists()
    return cluster.reason()


def test_a_healthy_node_runs_the_job(cluster: Cluster) -> None:
    """By the daemon's word: nothing is probed."""
    asked = cluster.daemon.asked

    assert runs(cluster) == "0"
    assert cluster.daemon.asked > asked
    assert "gpu-validator-prolog -- job" in cluster.log().replace("  ", " ")
    assert "from the daemon at unix:" in cluster.log()
    assert cluster.state() != "IDLE+DRAIN"


def test_a_sick_node_drains(cluster: Cluster) -> None:
    """The job does not start there; slurmd's log has the reason that Slurm does not give."""
    tell(cluster, autograd_0=SICK)

    assert drains(cluster) == "Prolog error"
    assert "fail: autograd on cuda:0: 3 of 9 elements wrong" in cluster.log()
    assert (cluster.folder / "kept/drained").read_text().startswith("fail: autograd on cuda:0")


@pytest.mark.parametrize(("gpus", "drained"), [("1", False), ("2", True)])
def test_only_the_jobs_gpus_are_judged(cluster: Cluster, gpus: str, drained: bool) -> None:  # noqa: FBT001
    """GPU 1 is sick: the affair of the job that gets both, not of the one on GPU 0."""
    tell(cluster, autograd_1=SICK)
    if drained:
        assert drains(cluster, f"--gres=gpu:{gpus}") == "Prolog error"
    else:
        assert runs(cluster, f"--gres=gpu:{gpus}") == "0"


@pytest.mark.parametrize(("sick", "drained"), [("autograd_0", False), ("autograd_3", True)])
def test_numbers_of_device_files_become_uuids(cluster: Cluster, sick: str, drained: bool) -> None:  # noqa: FBT001
    """The driver says that /dev/nvidia0 is the GPU which the daemon calls cuda:3."""
    for minor, index in enumerate((3, 2)):
        told = cluster.folder / f"gpus/0000:0{index}:00.0/information"
        told.parent.mkdir(parents=True, exist_ok=True)
        told.write_text(
            f"Model: \t\t A100\nGPU UUID: \t {GPUS[index].uuid}\n"
            f"Bus Location: \t 0000:0{index}:00.0\nDevice Minor: \t {minor}\n"
        )
    cluster.set(NVIDIA_GPUS=cluster.folder / "gpus")
    tell(cluster, **{sick: SICK})
    if drained:
        assert drains(cluster) == "Prolog error"
    else:
        assert runs(cluster) == "0"


def test_a_job_without_gpus_is_not_asked_about(cluster: Cluster) -> None:
    """Not even the daemon is."""
    tell(cluster, autograd_0=SICK)
    asked = cluster.daemon.asked
    runs(cluster, "--ntasks=1")

    assert cluster.daemon.asked == asked


def test_a_job_may_opt_out(cluster: Cluster) -> None:
    """By its comment, which a prolog sees without asking; not where the site forbids it."""
    tell(cluster, autograd_0=SICK)
    comment = "--comment=keep gpu-validator=off"
    spared = runs(cluster, "--gres=gpu:1", comment)
    until(lambda: cluster.state() == "IDLE", "its epilog is over")
    cluster.set(OPT_OUT="no")
    forbidden = drains(cluster, "--gres=gpu:1", comment)

    assert spared == "0"
    assert forbidden == "Prolog error"


def test_an_epilog_drains_after_the_job(cluster: Cluster) -> None:
    """The job spoils the GPU, and the site wants no more of it."""
    cluster.set(EPILOG_ON_FAIL="drain")
    (cluster.folder / "scripts/prolog").write_text("#!/bin/sh\nexit 0\n")  # not yet sick
    tell(cluster, autograd_0=SICK)
    ran = cluster.submit("--gres=gpu:1")
    until(lambda: "DRAIN" in cluster.state(), "the node drains")

    assert ran.exists()
    assert cluster.reason() == "Epilog error"


def test_an_epilog_only_looks(cluster: Cluster) -> None:
    """It tells, and the node stays in use."""
    (cluster.folder / "scripts/prolog").write_text("#!/bin/sh\nexit 0\n")  # not yet sick
    tell(cluster, autograd_0=SICK)
    runs(cluster)
    until((cluster.folder / "kept/noted").exists, "the epilog is over")
    until(lambda: cluster.state() == "IDLE", "the job is over")

    assert re.search(r"epilog -- +job \d+: fail: autograd on cuda:0", cluster.log())


@pytest.mark.parametrize(
    ("setting", "told", "drained"),
    [
        ({}, LOST, False),
        ({"ON_ERROR": "drain"}, LOST, True),
        ({"ON_FAIL": "allow"}, SICK, False),
    ],
)
def test_which_verdict_drains(
    cluster: Cluster,
    setting: dict[str, str],
    told: dict[str, Any],
    drained: bool,  # noqa: FBT001
) -> None:
    """Closed on fail and open on error, both to be changed."""
    cluster.set(**setting)
    tell(cluster, autograd_0=told)
    if drained:
        assert drains(cluster) == "Prolog error"
    else:
        runs(cluster)
        assert f"{told['status']}: autograd on cuda:0" in cluster.log()


@pytest.mark.parametrize("broken", ["settings", "common.sh", "command", "interpreter"])
def test_a_mishap_of_ours_drains_nothing(cluster: Cluster, broken: str) -> None:
    """Any exit but 0 would drain a node, and a shell's or an interpreter's own are 1, 2 and 127."""
    tell(cluster, autograd_0=SICK)
    if broken == "settings":
        (cluster.folder / "scripts/settings").write_text("MAX_AGE='15m\n")
    elif broken == "common.sh":
        (cluster.folder / "scripts/common.sh").unlink()
    elif broken == "command":
        cluster.set(GPU_VALIDATOR="/no/such/command")
    else:
        cluster.command("exec python3 -S -c 'import no_such_module'")
    runs(cluster)

    assert "DRAIN" not in cluster.state()


def test_without_a_daemon_nothing_runs_where_the_site_says_so(cluster: Cluster) -> None:
    """The command on the host may have no torch: that must not drain the node."""
    cluster.set(SERVER="unix:/no/such/daemon", RUN="no")
    runs(cluster)

    assert "unix:/no/such/daemon cannot be asked: " in cluster.log()
    assert "could not tell" in cluster.log()


def test_a_hung_daemon_and_a_hung_torch_are_bounded(cluster: Cluster) -> None:
    """The daemon gives no answer and `import torch` none either: the job starts all the same."""
    torch = cluster.folder / "hung/torch"
    torch.mkdir(parents=True)
    (torch / "__init__.py").write_text("import time; time.sleep(60)")
    cluster.daemon.hang.set()
    cluster.command(f"export PYTHONPATH={torch.parent}\nOURS")
    cluster.set(PROLOG_BUDGET_S=8, EPILOG_BUDGET_S=8)
    began = time.monotonic()
    runs(cluster)
    took = time.monotonic() - began

    assert took < 15
    assert "gave no answer in 2 s: running the probes here" in cluster.log()
    assert re.search(
        r"prolog -- +job \d+: error: \d+ of \d+ not run \(run_timeout\)", cluster.log()
    )


def test_a_command_that_cannot_be_stopped_gently_is_killed(cluster: Cluster) -> None:
    """It ignores SIGTERM; nothing of it is left."""
    cluster.command("trap '' TERM\nwhile :; do sleep 0.2; done # gpu-validator-hung")
    cluster.set(PROLOG_BUDGET_S=3, EPILOG_BUDGET_S=3)
    began = time.monotonic()
    runs(cluster)
    took = time.monotonic() - began
    cluster.resume()
    left = subprocess.run(
        ["pgrep", "-f", f"{cluster.folder}/gpu-validator"], capture_output=True, check=False
    )

    assert took < 10
    assert left.stdout == b""
    assert "error: no verdict from" in cluster.log()


# -- the health check ------------------------------------------------------------------------


def test_the_health_check_drains_and_resumes(watched: Cluster) -> None:
    """With the verdict as the reason; well for a while, by profile standard, it works again."""
    tell(watched, tensor_ops_2=SICK)
    until(lambda: "DRAIN" in watched.state(), "the node drains")
    first = watched.reason()
    tell(watched, autograd_1=SICK)
    until(lambda: "autograd" in watched.reason(), "the reason follows the verdict")
    tell(watched, matmul_3=SICK)  # only profile standard sees it
    until(lambda: "matmul" in watched.reason(), "the reason follows the thorough check")
    tell(watched)
    began = time.monotonic()
    until(lambda: watched.state() == "IDLE", "the node is resumed")

    assert first == "gpu-validator: fail: tensor_ops on cuda:2: 3 of 9 elements wrong"
    assert time.monotonic() - began > 4
    assert re.search(r"clean 1 of 2 times, \d of 5 s", watched.log())
    assert watched.reason() == ""


def test_an_intermittent_node_is_not_resumed(watched: Cluster) -> None:
    """Sick every few seconds: never well for long enough."""
    tell(watched, autograd_1=SICK)
    until(lambda: "DRAIN" in watched.state(), "the node drains")
    before = watched.log().count("resumed: ")
    for _ in range(3):
        tell(watched)
        _checked(watched)
        tell(watched, autograd_1=SICK)
        _checked(watched)

        assert watched.state() == "IDLE+DRAIN"
    assert watched.log().count("resumed: ") == before  # nor between two looks of ours


@pytest.mark.parametrize("state", ["", "State=DOWN"])
def test_what_somebody_touched_is_left_alone(watched: Cluster, state: str) -> None:
    """Our reason with a ticket is another's; and a node that was set down is not set up again."""
    tell(watched, autograd_1=SICK)
    until(lambda: watched.reason().startswith("gpu-validator:"), "the node drains")
    _checked(watched)
    given = f"Reason={watched.reason()}; ticket 123"
    watched.slurm("scontrol", "update", f"NodeName={watched.node}", *filter(None, [state]), given)
    before = watched.reason()
    tell(watched)
    time_up = time.monotonic() + 8
    until(lambda: time.monotonic() > time_up, "longer than a resume would take")

    assert before.endswith("; ticket 123")
    assert watched.reason() == before
    assert "DRAIN" in watched.state()


def test_a_reserved_node_is_not_resumed(watched: Cluster) -> None:
    """Maintenance has begun while it was drained."""
    tell(watched, autograd_1=SICK)
    until(lambda: watched.reason().startswith("gpu-validator:"), "the node drains")
    reservation = ("reservation=m", "starttime=now", "duration=9", "flags=maint,ignore_jobs")
    watched.slurm("scontrol", "create", *reservation, f"nodes={watched.node}", "users=root")
    try:
        until(lambda: "MAINT" in watched.state(), "the reservation begins")
        tell(watched)
        time_up = time.monotonic() + 8
        until(lambda: time.monotonic() > time_up, "longer than a resume would take")

        assert "DRAIN" in watched.state()
    finally:
        watched.slurm("scontrol", "delete", "reservation", "m")
    until(lambda: watched.state() == "IDLE", "the node is resumed")


def test_an_idle_node_is_checked_until_a_job_comes(watched: Cluster) -> None:
    """The thorough check is started by a health check, outlives it, and ends for the job."""
    marks = watched.folder / "marks"
    trap = f"trap 'echo ended >> {marks}; exit 143' TERM"
    hangs = f"echo began >> {marks}; {trap}; while :; do sleep 0.1; done"
    watched.command(f'case "$*" in *json*) {hangs};; esac\nOURS')
    watched.set(IDLE_EVERY="1s")
    try:
        until(marks.exists, "the check of the idle node begins")
        _checked(watched)
        before = marks.read_text()
        watched.set()
        began = time.monotonic()
        runs(watched)
        took = time.monotonic() - began
    finally:
        watched.set()
        watched.command()

    assert before == "began\n"
    assert marks.read_text() == "began\nended\n"
    assert took < 15
    assert "gives way" in watched.log()


def test_the_node_promises_what_slurm_gives_it(watched: Cluster) -> None:
    """Slurm's own word of this node, and its gres.conf."""
    seen = watched.folder / "seen"
    watched.command(f'echo "GPUs: $GPU_VALIDATOR_EXPECT__GPUS" > {seen}; OURS')
    try:
        until(seen.exists, "a health check")
        _checked(watched)
    finally:
        watched.command()

    assert seen.read_text() == "GPUs: 2\n"


def test_could_not_tell_changes_nothing(watched: Cluster) -> None:
    """Neither drains a node nor resumes one that was found sick."""
    tell(watched, autograd_0=LOST)
    _checked(watched)
    before = watched.state()
    tell(watched, autograd_0=SICK)
    until(lambda: "DRAIN" in watched.state(), "the node drains")
    tell(watched, autograd_0=LOST)
    _checked(watched)

    assert before == "IDLE"
    assert watched.state() == "IDLE+DRAIN"
    assert watched.reason().startswith("gpu-validator: fail: autograd")


def test_anothers_reason_is_left_alone(watched: Cluster) -> None:
    """A sick node keeps the reason that somebody gave, and a healthy one is not resumed."""
    watched.slurm(
        "scontrol", "update", f"NodeName={watched.node}", "State=DRAIN", "Reason=disk (anna)"
    )
    tell(watched, autograd_0=SICK)
    _checked(watched)
    sick = (watched.state(), watched.reason())
    tell(watched)
    _checked(watched)

    assert sick == ("IDLE+DRAIN", "disk (anna)")
    assert (watched.state(), watched.reason()) == ("IDLE+DRAIN", "disk (anna)")
    assert "the node's reason is another's: disk (anna)" in watched.log()


def test_a_prolog_of_another_is_left_alone(watched: Cluster) -> None:
    """Slurm says "Prolog error" for it as well, but we did not drain that."""
    watched.slurm(
        "scontrol", "update", f"NodeName={watched.node}", "State=DRAIN", "Reason=Prolog error"
    )
    _checked(watched)

    assert (watched.state(), watched.reason()) == ("IDLE+DRAIN", "Prolog error")


def test_what_our_prolog_drained_gets_its_reason_and_is_resumed(watched: Cluster) -> None:
    """The prolog comes first; the health check gives the reason, and clears it."""
    watched.set(MAX_AGE="")
    watched.command("echo 'x fail: autograd on cuda:0: wrong'; exit 1")
    prolog = watched.folder / "scripts/healthcheck"
    kept = prolog.read_text()
    prolog.write_text("#!/bin/sh\nexit 0\n")
    try:
        by_prolog = drains(watched)
    finally:
        prolog.write_text(kept)
    until(lambda: watched.reason().startswith("gpu-validator:"), "the reason is ours")
    reason = watched.reason()
    watched.set(RUN="no")
    watched.command()
    until(lambda: watched.state() == "IDLE", "the node is resumed")

    assert by_prolog == "Prolog error"
    assert reason == "gpu-validator: fail: autograd on cuda:0: wrong"


def test_slow_health_checks_do_not_pile_up(watched: Cluster) -> None:
    """One at a time, whatever slurmctld starts meanwhile; killed in the end, and told of."""
    counter = watched.folder / "count"
    watched.command(f"echo begin >> {counter}; trap '' TERM; sleep 4; echo end >> {counter}")
    watched.set(HEALTH_BUDGET_S=3)
    try:
        until(lambda: counter.exists() and counter.read_text().count("begin") >= 2, "two checks")
    finally:
        watched.set()
        watched.command()
    times = re.findall(r"no verdict from \S+ within 3 s:", watched.log())

    assert times
    assert watched.state() == "IDLE"


def _checked(cluster: Cluster) -> None:
    """Wait until two more health checks are over, the second of which began after now."""
    asked = cluster.daemon.asked
    until(lambda: cluster.daemon.asked >= asked + 2, "health checks come")


def test_shellcheck_is_content() -> None:
    """Every script and the settings."""
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck here")
    names = [path.name for path in SCRIPTS.iterdir() if path.suffix != ".awk"]
    done = subprocess.run(
        ["shellcheck", "--external-sources", *names],
        cwd=SCRIPTS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout == ""


def test_a_prolog_runs_no_slurm_command() -> None:
    """The controller waits for a prolog; a command that asks it would wait for itself."""
    names = ("prolog", "epilog", "common.sh", "state.sh", "judge.sh")
    text = "".join((SCRIPTS / name).read_text(encoding="utf-8") for name in names)
    health = (SCRIPTS / "node.sh").read_text(encoding="utf-8")
    loaded = (SCRIPTS / "common.sh").read_text(encoding="utf-8").partition("\nhealthcheck |")

    assert not re.search(r"(?i)\b(scontrol|sinfo|squeue|sacct|srun)\b", text)
    assert re.search(r"\bscontrol update\b", health)
    assert "node.sh" not in loaded[0]
    assert "node.sh" in loaded[2]
