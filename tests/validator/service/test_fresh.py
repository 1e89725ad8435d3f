"""`check --max-age`: the daemon's report answers where it can, and nowhere else."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from typing import Any

import pytest

from probes.contract import Finding
from tests.validator import reports
from tests.validator.cli.fakes import Worker
from tests.validator.reports import GPUS, QUICK, node, recent
from tests.validator.service.fake_runner import result
from validator.cli import early, one_run
from validator.cli import main as cli
from validator.engine.plan import make_plan
from validator.report import NotRun, Report, host_name, to_json
from validator.service import ask, fresh
from validator.service.ask import NoAnswerError
from validator.service.trust import Trust
from validator.service.turns import BUSY
from validator.settings.loading import load
from validator.settings.model import Settings

NOW = reports.STARTED + timedelta(seconds=60)
UUIDS = [str(device.uuid) for device in GPUS]


def answered(report: Report, settings: Settings | None = None, **fields: Any) -> Report:
    """The answer to a check with these settings."""
    settings = settings or Settings()
    only = fields.pop("only", ())
    max_age_s = fields.pop("max_age_s", 600.0)
    asker: dict[str, Any] = {
        "now": NOW,
        "host": host_name(),
        "environment": {},
        "torch": None,
        "booted_at": None,
    }
    plan = make_plan(settings, "cli", only=only)
    asking = fresh.Asker(**{**asker, **fields})
    return fresh.select(report, plan, settings, max_age_s=max_age_s, asker=asking)


def wanting(*devices: str, **more: Any) -> Settings:
    """Settings that ask for these devices."""
    return load(flags={"run": {"devices": list(devices)}, **more})


def names(report: Report) -> set[str]:
    """The devices of an answer's device probes."""
    return {result.device for result in report.results} - {"cpu"}


def test_a_whole_node_is_the_answer_unchanged() -> None:
    """Results, status, summary and devices are the daemon's."""
    assert answered(node()) == node()


def test_a_sick_device_is_a_fail() -> None:
    """The verdict is the daemon's."""
    sick = {"status": "fail", "reason": "check_failed", "summary": "wrong"}
    answer = answered(node({"autograd on cuda:2": sick}))

    assert answer.status == "fail"
    assert answer.summary == "fail: autograd on cuda:2: wrong"


@pytest.mark.parametrize(("device", "status"), [("cuda:2", "fail"), ("cuda:1", "pass")])
def test_only_the_asked_devices_count(device: str, status: str) -> None:
    """A sick GPU is not the affair of a job on another; the summary is of the asked one."""
    sick = {"status": "fail", "reason": "check_failed", "summary": "wrong"}
    answer = answered(node({"autograd on cuda:2": sick}), wanting(device))

    assert names(answer) == {device}
    assert answer.status == status
    assert answer.summary.startswith(status)
    assert [one.name for one in answer.devices] == [device]


@pytest.mark.parametrize(
    "name", [UUIDS[3], UUIDS[3][:30] + UUIDS[3][30:], "0000:03:00.0", "03:00.0"]
)
def test_devices_by_uuid_and_pci_address(name: str) -> None:
    """What means the same everywhere."""
    assert names(answered(node(), wanting(name))) == {"cuda:3"}


@pytest.mark.parametrize(
    ("visible", "asked", "found"),
    [
        (f"{UUIDS[2]}", (), {"cuda:2"}),
        (f"{UUIDS[2]}, {UUIDS[0]}", (), {"cuda:0", "cuda:2"}),
        (f"{UUIDS[2]},{UUIDS[0]}", ("cuda:0",), {"cuda:2"}),
        (f"{UUIDS[2]},{UUIDS[0]}", ("cuda",), {"cuda:0", "cuda:2"}),
        ("0", (UUIDS[3],), {"cuda:3"}),
    ],
)
def test_a_jobs_gpus_by_its_variable(visible: str, asked: tuple[str, ...], found: set[str]) -> None:
    """A job's cuda:0 is not the daemon's: UUIDs translate it."""
    answer = answered(node(), wanting(*asked), environment={"CUDA_VISIBLE_DEVICES": visible})

    assert names(answer) == found


LOST = {
    "status": "fail",
    "reason": "check_failed",
    "summary": "all_gpus: PCI shows 5 NVIDIA GPUs, and 1 of them cannot be used",
    "findings": (Finding(id="cuda_available.all_gpus", status="fail"),),
}


def test_a_gpu_that_the_daemon_lost_is_a_fail() -> None:
    """It does not know the device, and says itself that GPUs are lost: that is an answer."""
    report = node({"cuda_available on cuda:0": LOST})
    answer = answered(report, wanting("GPU-99999999"))
    gone = answer.results[0]

    assert (answer.status, gone.device, gone.reason) == ("fail", "GPU-99999999", "no_device")
    assert gone.started_at == reports.STARTED


def test_a_gpu_that_the_daemon_does_not_know_says_nothing_by_itself() -> None:
    """The daemon may have been given fewer; and another failure of it is none of this kind."""
    other = {**LOST, "findings": (Finding(id="cuda_available.kernel", status="fail"),)}
    for report in (node(), node({"cuda_available on cuda:0": other})):
        with pytest.raises(NoAnswerError, match="knows no device 'GPU-99999999'"):
            answered(report, wanting("GPU-99999999"))


def test_a_gpu_cut_into_instances_is_one_gpu() -> None:
    """What is promised is counted as the operator counts: four GPUs, of which one has two parts."""
    parts = tuple(
        GPUS[0].model_copy(update={"name": f"cuda:0:{slot}", "uuid": f"MIG-{slot}"})
        for slot in range(2)
    )
    parts = tuple(each.model_copy(update={"parent_uuid": GPUS[0].uuid}) for each in parts)
    sliced = node().model_copy(update={"devices": (*parts, *GPUS[1:])})
    only = ("torch_version",)

    def asked(**expect: int) -> Report:
        return answered(sliced, load(flags={"expect": expect}), only=only)

    assert asked(gpus=4, mig_instances=2).status == "pass"
    with pytest.raises(NoAnswerError, match=r"expect\.gpus is 5, the daemon tells of 4"):
        asked(gpus=5)
    with pytest.raises(NoAnswerError, match=r"expect\.mig_instances is 7, the daemon tells of 2"):
        asked(mig_instances=7)


def under_a_fault() -> Report:
    """A report with one result that a fault was injected for."""
    *rest, last = node().results
    faulty = last.model_copy(update={"fault": "wrong_backward"})
    return node().model_copy(update={"results": (*rest, faulty)})


def twice() -> Report:
    """A report with a second, better opinion of one probe."""
    results = node().results
    return node().model_copy(update={"results": (*results, results[0])})


REFUSED: dict[str, tuple[Callable[[], Report], str]] = {
    "old": (lambda: answered(node(), max_age_s=59), "torch_version on cpu is 60 s old"),
    "one old": (
        lambda: answered(
            node({"autograd on cuda:1": {"started_at": reports.STARTED - timedelta(hours=1)}})
        ),
        "autograd on cuda:1 is 3660 s old",
    ),
    "ahead": (
        lambda: answered(node(), now=reports.STARTED - timedelta(minutes=1)),
        "60 s ahead of this clock",
    ),
    "another host": (
        lambda: answered(node(), host="node-18"),
        f"is of the host {host_name()}, and this is node-18 .*NODE_NAME",
    ),
    "another domain": (
        lambda: answered(node().model_copy(update={"host": "a.lab"}), host="a.prod"),
        "is of the host a.lab, and this is a.prod",
    ),
    "an injected fault": (
        lambda: answered(under_a_fault()),
        "autograd on cuda:3 was made under the fault wrong_backward",
    ),
    "an injected fault on a device not asked for": (
        lambda: answered(under_a_fault(), wanting("cuda:0")),
        "autograd on cuda:3 was made under the fault wrong_backward",
    ),
    "finished in the future": (
        lambda: answered(
            node().model_copy(update={"finished_at": NOW + timedelta(seconds=10)}),
        ),
        "the daemon's report is 10 s ahead of this clock",
    ),
    "a result of the future": (
        lambda: answered(
            node({"autograd on cuda:1": {"started_at": NOW + timedelta(days=365)}}),
        ),
        "autograd on cuda:1 is 31536000 s ahead",
    ),
    "a time that overflows": (
        lambda: answered(node({"autograd on cuda:1": {"duration_s": 1e300}})),
        r"autograd on cuda:1 has a time that cannot be: .*duration_s 1e\+300",
    ),
    "an endless time": (
        lambda: answered(node({"autograd on cuda:1": {"duration_s": float("inf")}})),
        "autograd on cuda:1 has a time that cannot be: .*duration_s inf",
    ),
    "a time that is none": (
        lambda: answered(node({"autograd on cuda:1": {"duration_s": float("nan")}})),
        "autograd on cuda:1 has a time that cannot be: .*duration_s nan",
    ),
    "a time that runs backwards": (
        lambda: answered(node({"autograd on cuda:1": {"duration_s": -1e9}})),
        "autograd on cuda:1 has a time that cannot be",
    ),
    "the end of time": (
        lambda: answered(
            node({"autograd on cuda:1": {"started_at": datetime.max.replace(tzinfo=timezone.utc)}})
        ),
        "autograd on cuda:1 has a time that cannot be: started_at 9999-12-31",
    ),
    "two results of one probe": (
        lambda: answered(twice()),
        "the daemon has two results of torch_version on cpu",
    ),
    "no result": (
        lambda: answered(reports.report([reports.result("torch_version")])),
        "no result of cuda_available on cpu",
    ),
    "cpu of a GPU node": (
        lambda: answered(node(), wanting("cpu")),
        "no result of cuda_available on cpu",
    ),
    "disabled there": (
        lambda: answered(node({"autograd on cuda:0": {"status": "skip", "reason": "disabled"}})),
        "the probe is disabled there",
    ),
    "unknown device": (lambda: answered(node(), wanting("cuda:4")), "no device 'cuda:4'"),
    "unknown uuid": (lambda: answered(node(), wanting("GPU-ffffffff")), "no device 'GPU-ffffffff'"),
    "numbers": (
        lambda: answered(node(), environment={"CUDA_VISIBLE_DEVICES": "0,1"}),
        "CUDA_VISIBLE_DEVICES=0,1 does not name GPUs by UUID",
    ),
    "a number asked for": (
        lambda: answered(node(), wanting("cuda:0"), environment={"ROCR_VISIBLE_DEVICES": "1"}),
        "ROCR_VISIBLE_DEVICES=1 does not name",
    ),
    "no GPU visible": (
        lambda: answered(node(), environment={"CUDA_VISIBLE_DEVICES": ""}),
        "does not name GPUs by UUID",
    ),
    "beyond the visible": (
        lambda: answered(node(), wanting("cuda:1"), environment={"CUDA_VISIBLE_DEVICES": UUIDS[0]}),
        "leaves no device 'cuda:1'",
    ),
    "fewer than promised": (
        lambda: answered(node(), load(flags={"expect": {"gpus": 8}})),
        "expect.gpus is 8, the daemon tells of 4",
    ),
    "fewer visible than promised": (
        lambda: answered(
            node(),
            load(flags={"expect": {"gpus": 2}}),
            environment={"CUDA_VISIBLE_DEVICES": UUIDS[0]},
        ),
        "the daemon tells of 1",
    ),
    "another torch than promised": (
        lambda: answered(node(), load(flags={"expect": {"torch": "<2.13"}})),
        "expect.torch is <2.13",
    ),
    "another torch here": (
        lambda: answered(node(), torch="2.12.0"),
        "judged torch 2.13.0\\+cpu, and here is 2.12.0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_answer(case: str) -> None:
    """Absence, age, another device, another torch: then the probes run."""
    attempt, why = REFUSED[case]
    with pytest.raises(NoAnswerError, match=why):
        attempt()


@pytest.mark.parametrize(
    ("theirs", "ours"), [("node-17", "NODE-17"), ("node-17.lab", "node-17"), ("n", "n.lab")]
)
def test_a_host_may_be_named_without_its_domain(theirs: str, ours: str) -> None:
    """Kubernetes, Slurm and the kernel spell one node's name differently."""
    report = node().model_copy(update={"host": theirs})

    assert answered(report, host=ours).status == "pass"


def test_what_was_found_before_this_boot_is_no_answer() -> None:
    """Another driver may have run then; a clock may be off by a little."""
    started = node().results[0].started_at
    assert answered(node(), booted_at=started + timedelta(seconds=4))
    with pytest.raises(NoAnswerError, match="is from before this machine was started"):
        answered(node(), booted_at=started + timedelta(seconds=600))


def test_a_fail_of_before_this_boot_is_no_answer_about_its_own_probe_alone() -> None:
    """A daemon that kept one still answers of what ran since."""
    old = result("matmul", "cuda:0", "fail", started_at=NOW - timedelta(days=1))
    both = node().model_copy(update={"results": (*node().results, old)})
    asked = ("matmul", "tensor_ops")

    assert answered(both, booted_at=NOW - timedelta(hours=1)).status == "pass"
    with pytest.raises(NoAnswerError, match="of matmul on cuda:0 is from before this machine"):
        answered(both, only=asked, max_age_s=90000.0, booted_at=NOW - timedelta(hours=1))


def test_when_this_machine_was_started() -> None:
    """As the kernel tells it."""
    uptime_s = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    booted_at = fresh._boot_time()

    assert booted_at is not None
    assert abs((datetime.now(timezone.utc) - booted_at).total_seconds() - uptime_s) < 60


def test_promises_that_hold() -> None:
    """The same promises, kept."""
    promises = load(flags={"expect": {"gpus": 4, "torch": ">=2.13"}})

    assert answered(node(), promises, torch="2.13.0").status == "pass"


def test_the_age_is_that_of_the_end() -> None:
    """A result counts from when it was there; a quarter of a second is its duration."""
    assert answered(node(), max_age_s=59.8).status == "pass"
    assert fresh.oldest_s(node(), NOW) == 59.75


def test_what_got_no_chance_on_another_device_is_left_out() -> None:
    """It is an error of the whole node, and not of the device that was asked for."""
    cut_off = NotRun(probe="autograd", device="cuda:1", reason="run_timeout")
    whole = reports.report(node().results[:-1], [cut_off], devices=GPUS)
    answer = answered(whole, wanting("cuda:0"))

    assert (whole.status, answer.status, answer.not_run) == ("error", "pass", ())


def test_named_probes_alone_must_be_there() -> None:
    """What was not asked for may be missing or old."""
    report = reports.report([reports.result("torch_version")])

    assert [one.probe for one in answered(report, only=("torch_version",)).results] == [
        "torch_version"
    ]


def test_a_probe_switched_off_here_is_skipped_as_in_a_run() -> None:
    """Our own settings decide what is left out."""
    off = load(flags={"probes": {"autograd": {"enabled": False}}})
    answer = answered(node(), off)

    assert {one.reason for one in answer.results if one.probe == "autograd"} == {"disabled"}


# -- the socket, the command -----------------------------------------------------------------


class Daemon(BaseHTTPRequestHandler):
    """Answers what the test told it to."""

    status = 200
    body = b""
    delay = threading.Event()  # waited for before an answer, where it is set to slow
    slow = False

    def do_GET(self) -> None:
        """The report, whatever is asked for but the health."""
        if self.slow:
            self.delay.wait(10)
        body = b"ok\n" if self.path == "/healthz" else self.body
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        """A unix socket's peer has no address."""
        return "unix"


@contextmanager
def listening_at(path: Path, **told: Any) -> Iterator[str]:
    """A daemon on a unix socket; the `--server` that names it."""

    class Server(UnixStreamServer):
        """Knows nothing of what it is given: a client that left is no error here."""

        def handle_error(self, *_: Any) -> None:
            """Say nothing."""

    server = Server(str(path), type("Told", (Daemon,), told))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"unix:{path}"
    finally:
        Daemon.delay.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Runner:
    """Stands for the runner; remembers that it ran."""

    ran = 0

    def __init__(self, worker: Any = None) -> None:
        assert worker is None

    async def run(self, *_: Any) -> Report:
        """A run that passed."""
        type(self).ran += 1
        return reports.sound()


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run `check` in this process; a worker started early would fail the test."""
    for variable in list(os.environ):
        if variable.startswith("GPU_VALIDATOR_") or variable in fresh._VISIBLE:
            monkeypatch.delenv(variable)
    monkeypatch.setattr(one_run, "Runner", Runner)
    monkeypatch.setattr(Runner, "ran", 0)
    monkeypatch.setattr(fresh, "_boot_time", lambda: None)  # some reports are from long ago

    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(early, "start_worker", started)

    def run(*argv: str) -> int:
        monkeypatch.setattr(sys, "argv", ["gpu-validator", "check", *argv])
        return cli.main()

    return run


@pytest.mark.parametrize(("report", "code"), [(node(), 0), (reports.sick(), 1)])
def test_the_daemons_word_is_the_exit_code_and_the_json(
    report: Report,
    code: int,
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As from a run: JSON alone on stdout; which of the two it was, on stderr."""
    asked = ["--probe", "tensor_ops", "--device", "cuda:0"]
    with listening_at(tmp_path / "s", body=recent(report)) as server:
        given = call("--max-age", "10m", "--server", server, "--output", "json", *asked)
    told = capsys.readouterr()

    assert given == code
    assert Runner.ran == 0
    assert Report.model_validate_json(told.out).status == report.status
    assert told.err == f"gpu-validator: from the daemon at {server}, oldest result 10 s old\n"


NO_ANSWER: dict[str, tuple[dict[str, Any], str]] = {
    "no run yet": ({"status": 503, "body": b'{"detail":"no run has ended yet"}'}, "no run yet"),
    "busy": ({"status": 503, "body": BUSY}, "s is busy: "),
    "another page": ({"status": 404, "body": b"{}"}, "answered 404 and no report of version 1"),
    "no report": ({"body": b"<html>"}, "answered 200 and no report of version 1"),
    "a later version": (
        {"body": to_json(node().model_copy(update={"schema_version": 2})).encode()},
        "no report of version 1",
    ),
    "old": ({"body": to_json(node()).encode()}, "s old"),
    "flood": ({"body": b" " * (ask._MOST_BYTES + 1)}, "answered with more than"),
    "hung": ({"slow": True}, "gave no answer in 0.3 s"),
}


@pytest.mark.parametrize("case", NO_ANSWER)
def test_without_an_answer_the_probes_run(
    case: str,
    call: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever is wrong with the daemon: a run decides, and why is said."""
    told, why = NO_ANSWER[case]
    monkeypatch.setattr(fresh, "_DEADLINE_S", 0.3)
    monkeypatch.setattr(fresh, "installed_torch", lambda: None)
    Daemon.delay.clear()
    with listening_at(tmp_path / "s", **told) as server:
        code = call("--max-age=10m", "--server", server)

    assert code == 0
    assert Runner.ran == 1
    assert why in (line := capsys.readouterr().err)
    assert line.endswith(": running the probes here\n")


def test_nobody_listens(call: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """No daemon at all is the usual reason to run."""
    assert call("--max-age", "1m", "--server", "unix:/no/such/socket") == 0
    assert Runner.ran == 1
    assert "unix:/no/such/socket cannot be asked: " in capsys.readouterr().err


OF_NO_USE: dict[str, tuple[dict[str, Any], str]] = {
    "another host": ({"host": "node-99"}, "is of the host node-99, and this is "),
    "under a fault": ({"fault": "wrong_backward"}, "was made under the fault wrong_backward"),
    "from the future": ({"started_at": "2999-01-01T00:00:00Z"}, "s ahead of this clock"),
    "an overflow": ({"duration_s": 1e300}, "has a time that cannot be: "),
    "another schema": ({"schema_version": 2}, "no report of version 1"),
}


@pytest.mark.parametrize(("changed", "why"), OF_NO_USE.values(), ids=OF_NO_USE)
def test_a_report_of_no_use_is_told_and_the_probes_run(
    changed: dict[str, Any],
    why: str,
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever a server answers, the verdict is never taken from what speaks of something else."""
    document = json.loads(recent(node()))
    for name, value in changed.items():
        of_a_result = name in {"fault", "duration_s"}
        (document["results"][-1] if of_a_result else document)[name] = value
    with listening_at(tmp_path / "s", body=json.dumps(document).encode()) as server:
        assert call("--max-age", "10m", "--server", server) == 0

    told = capsys.readouterr().err
    assert Runner.ran == 1
    assert why in told
    assert told.endswith(": running the probes here\n")


def test_a_signal_while_the_daemon_is_asked_is_the_exit_code(
    call: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report is whole and is written; whoever stopped the check does not take it for a pass."""
    read = fresh.fetch

    def interrupted(server: str, trust: Trust) -> Report:
        os.kill(os.getpid(), signal.SIGTERM)
        return read(server, trust)

    monkeypatch.setattr(fresh, "fetch", interrupted)
    with listening_at(tmp_path / "s", body=recent(node())) as server:
        assert call("--max-age", "10m", "--server", server) == 128 + signal.SIGTERM

    assert Runner.ran == 0


def test_the_report_of_a_newer_daemon_answers(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fields that this version does not know are passed over: an upgrade costs no run a node."""
    document = json.loads(recent(node()))
    document["new"] = document["results"][0]["newer"] = document["devices"][0]["newest"] = [1]
    with listening_at(tmp_path / "s", body=json.dumps(document).encode()) as server:
        assert call("--max-age", "10m", "--server", server) == 0

    assert Runner.ran == 0
    assert "from the daemon at " in capsys.readouterr().err


@pytest.mark.parametrize(("more", "code"), [((), 2), (("--fail-open",), 0)])
def test_no_run_is_could_not_tell(
    more: tuple[str, ...],
    code: int,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where the command has no torch of its own, a run would call the node broken."""
    assert call("--max-age", "1m", "--server", "unix:/no/such", "--no-run", *more) == code
    assert Runner.ran == 0
    assert capsys.readouterr().err.endswith(": could not tell\n")


def test_the_settings_know_the_server(
    call: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --server: the unix socket of the settings; where that is none, the first address."""
    monkeypatch.setenv("GPU_VALIDATOR_WEB__UNIX_SOCKET", str(tmp_path / "s"))
    with listening_at(tmp_path / "s", body=recent(node())):
        assert call("--max-age", "10m") == 0

    assert Runner.ran == 0
    assert fresh.server_of(Settings()) == f"unix:{tmp_path}/s"
    monkeypatch.delenv("GPU_VALIDATOR_WEB__UNIX_SOCKET")
    assert fresh.server_of(Settings()) == "unix:@gpu-validator"
    monkeypatch.setenv("GPU_VALIDATOR_WEB__UNIX_SOCKET", "")
    assert fresh.server_of(Settings()) == "http://127.0.0.1:8790"


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("--server", "unix:/x"), "--server is for --max-age"),
        (("--no-run",), "--no-run is for --max-age"),
        (("--max-age", "1m", "--server", "unix:x"), "--server: 'unix:x' is no address such as"),
        (("--max-age", "soon"), "--max-age: 'soon' is no duration"),
        (("--max-age", "9" * 400), "is no duration"),
        (("--max-age", "367d"), "is no time above 0, and of a year at most"),
        (("--max-age", "0"), "--max-age: '0' is no time above 0"),
    ],
)
def test_wrong_usage(
    argv: tuple[str, ...],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, and the option."""
    monkeypatch.setattr(early, "start_worker", Worker)
    monkeypatch.setattr(sys, "argv", ["gpu-validator", "check", *argv])

    assert cli.main() == 2
    assert line in capsys.readouterr().err


def test_healthcheck_over_the_unix_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A container without a port of its own can be asked too."""
    with listening_at(tmp_path / "s") as server:
        monkeypatch.setattr(sys, "argv", ["gpu-validator", "healthcheck", "--url", server])
        well = cli.main()
    ill = cli.main()

    assert (well, ill) == (0, 1)
    assert f"{server} cannot be asked" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.torch
def test_a_real_daemon_over_its_socket(tmp_path: Path) -> None:
    """Processes all: the daemon's first run answers a check; its end takes the socket away."""
    path = tmp_path / "s"
    environment = {
        **{k: v for k, v in os.environ.items() if k not in fresh._VISIBLE},
        "GPU_VALIDATOR_WEB__UNIX_SOCKET": str(path),
        "GPU_VALIDATOR_WEB__LISTEN_ADDRESS": "127.0.0.1:0",
        "GPU_VALIDATOR_RUN__PROFILE": "quick",
    }
    command = [sys.executable, "-m", "validator"]
    daemon = subprocess.Popen([*command, "serve"], env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
        while not _reported(path):
            assert time.monotonic() < deadline, "the daemon's first run never ended"
            assert daemon.poll() is None
            time.sleep(0.1)
        done = subprocess.run(
            [*command, "check", "--max-age", "10m", "--output", "json"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        daemon.terminate()
        daemon.wait(10)
    report = Report.model_validate_json(done.stdout)

    assert f"from the daemon at unix:{path}" in done.stderr
    assert report.trigger == "merged"
    assert {one.probe for one in report.results} == {spec.name for spec in QUICK}
    assert done.returncode == {"pass": 0, "warn": 0, "fail": 1}.get(report.status, 2)
    assert not path.exists()


def _reported(path: Path) -> bool:
    """Whether the daemon has ended a run."""
    try:
        return ask.get(f"unix:{path}", "/api/v1/report", 5).status == http.client.OK
    except NoAnswerError:
        return False
