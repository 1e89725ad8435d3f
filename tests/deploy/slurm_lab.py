"""A real Slurm of one node with two stand-in GPUs, and a daemon whose word is the test's."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SCRIPTS: Final = ROOT / "deploy/slurm"
TOOLS: Final = ("munged", "slurmctld", "slurmd", "scontrol", "sbatch", "flock", "timeout")

_SLURM_CONF: Final = """
ClusterName=lab
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
ReturnToService=2
PrologFlags=Alloc
Prolog={folder}/scripts/prolog
Epilog={folder}/scripts/epilog
{health}
NodeName={node} NodeAddr=127.0.0.1 CPUs={cpus} Gres=gpu:2 State=UNKNOWN
PartitionName=gpu Nodes={node} Default=YES MaxTime=INFINITE State=UP
"""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def until(condition: Callable[[], bool], what: str, most_s: float = 30.0) -> None:
    """Wait for a condition; fail by its name when it does not come true."""
    deadline = time.monotonic() + most_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {most_s:g} s: {what}"
        time.sleep(0.1)


class _Daemon(BaseHTTPRequestHandler):
    """Answers with the report that its server was told, late where told so."""

    def do_GET(self) -> None:
        """Any path."""
        told: Any = self.server
        told.asked += 1
        if told.hang.is_set():
            told.over.wait(60)
            return
        for result in told.report["results"]:
            result["started_at"] = time.time() - 1  # a daemon that probes all the time
        body = json.dumps(told.report).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        """A unix socket's peer has no address."""
        return "unix"


class _Server(ThreadingUnixStreamServer):
    """The daemon's socket."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.report: dict[str, Any] = {}
        self.asked = 0
        self.hang, self.over = threading.Event(), threading.Event()
        super().__init__(str(path), _Daemon)

    def handle_error(self, *_: Any) -> None:
        """A client that was killed meanwhile is what some tests are about."""


class Cluster:
    """munged, slurmctld and slurmd of our own, in a folder; gone with `stop`."""

    def __init__(self, folder: Path) -> None:
        """Write its files; start nothing yet."""
        self.folder = folder
        self.node = socket.gethostname().partition(".")[0]
        self.daemon = _Server(folder / "daemon")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        for name in ("state", "spool", "munge", "jobs", "scripts"):
            (folder / name).mkdir(mode=0o700)
        self.install()
        (folder / "logger").write_text(f'#!/bin/sh\necho "$@" >> {folder}/logged\n')
        (folder / "logger").chmod(0o755)
        (folder / "logged").touch()
        self.set()

    def install(self) -> None:
        """Put the scripts there as they are, and leave their settings."""
        for path in SCRIPTS.iterdir():
            if path.name != "settings":
                shutil.copy(path, self.folder / "scripts")

    def set(self, **settings: object) -> None:
        """Change settings of the scripts; what is not named is as for a test."""
        values: dict[str, object] = {
            "GPU_VALIDATOR": self.folder / "gpu-validator",
            "SERVER": f"unix:{self.folder}/daemon",
            "STATE_DIR": self.folder / "kept",
            "DEVICE_TYPE": "cuda",
            "NVIDIA_GPUS": self.folder / "no-driver",
            "LOGGER": self.folder / "logger",
            "SLURM_CONF": self.folder / "slurm.conf",
            "GPU_FILES": f"^{self.folder}/gpu[0-9]$",
            "RESUME_AFTER": 2,
            "RESUME_WAIT": "5s",
            **settings,
        }
        lines = [f"{name}='{value}'" for name, value in values.items()]
        text = (SCRIPTS / "settings").read_text(encoding="utf-8")
        (self.folder / "scripts/settings").write_text(text + "\n".join(lines) + "\n")

    def command(self, script: str = "") -> None:
        """Make the command that the scripts run: our own, or another script in its place."""
        ours = f'cd {ROOT} && exec {sys.executable} -m validator "$@"'
        path = self.folder / "gpu-validator"
        path.write_text(f"#!/bin/sh\n{script.replace('OURS', ours) or ours}\n")
        path.chmod(0o755)

    def start(self, *, health_s: int = 0) -> None:
        """Start all of it and wait until the node is idle."""
        for index in range(2):
            os.mknod(self.folder / f"gpu{index}", 0o600 | 0o020000, os.makedev(1, 3))
        (self.folder / "gres.conf").write_text(
            f"NodeName={self.node} Name=gpu File={self.folder}/gpu[0-1]\n"
        )
        health = (
            f"HealthCheckProgram={self.folder}/scripts/healthcheck\n"
            f"HealthCheckInterval={health_s}\nHealthCheckNodeState=ANY,CYCLE"
        )
        (self.folder / "slurm.conf").write_text(
            _SLURM_CONF.format(
                folder=self.folder,
                node=self.node,
                controller_port=_free_port(),
                node_port=_free_port(),
                cpus=os.cpu_count(),
                health=health if health_s else "",
            )
        )
        threading.Thread(
            target=self.daemon.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        munge = self.folder / "munge"
        (munge / "key").write_bytes(os.urandom(128))
        (munge / "key").chmod(0o600)
        files = [f"--{name}={munge}/{name}" for name in ("key-file", "log-file", "pid-file")]
        files[0] = f"--key-file={munge}/key"
        self._run(
            "munged",
            "--foreground",
            "--force",
            f"--socket={munge}/socket",
            f"--seed-file={munge}/seed",
            *files,
        )
        until((munge / "socket").exists, "munged listens")
        self._run("slurmctld", "-D", "-i", "-f", str(self.folder / "slurm.conf"))
        self._run("slurmd", "-D", "-f", str(self.folder / "slurm.conf"))
        until(lambda: "IDLE" in self.state() or "DRAIN" in self.state(), "the node registers", 60)

    def _run(self, *command: str) -> None:
        log = (self.folder / f"{command[0]}.log").open("wb")
        with log:
            self._processes.append(
                subprocess.Popen(
                    command, env=self._environment, stdout=log, stderr=log, start_new_session=True
                )
            )

    def stop(self) -> None:
        """End everything that was started, jobs too."""
        for process in reversed(self._processes):
            process.terminate()
        self.daemon.over.set()
        deadline = time.monotonic() + 20  # slurmd waits for its scripts
        while any(one.poll() is None for one in self._processes) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
        self.daemon.shutdown()
        self.daemon.server_close()

    def slurm(self, *command: str) -> str:
        """What a Slurm command says."""
        done = subprocess.run(
            command,
            env=self._environment,
            cwd=self.folder / "jobs",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def _shown(self, key: str) -> str:
        with contextlib.suppress(AssertionError):  # not up yet
            for line in self.slurm("scontrol", "show", "node", self.node).splitlines():
                name, _, value = line.strip().partition("=")
                if name == key:
                    return value
        return ""

    def state(self) -> str:
        """The node's state, such as IDLE+DRAIN."""
        return self._shown("State").partition(" ")[0]

    def reason(self) -> str:
        """Why it is drained."""
        return self._shown("Reason").rpartition(" [")[0]

    def resume(self) -> None:
        """Make the node take work again, whatever it was drained for."""
        self.slurm("scancel", "--quiet", "--user", "root")
        for name in ("drained", "record"):
            (self.folder / "kept" / name).unlink(missing_ok=True)
        until(lambda: self.state() in {"IDLE", "IDLE+DRAIN"}, "no job is left on the node")
        if "DRAIN" in self.state():
            self.slurm("scontrol", "update", f"NodeName={self.node}", "State=RESUME")
        until(lambda: self.state() == "IDLE", "the node is idle again")

    def submit(self, *options: str) -> Path:
        """Submit a job; the file that it makes when it runs."""
        ran = self.folder / "jobs" / f"ran-{time.monotonic_ns()}"
        self.slurm("sbatch", *options, "--wrap", f'echo "$SLURM_JOB_GPUS" > {ran}')
        return ran

    def log(self) -> str:
        """What the scripts logged, and slurmd."""
        files = (self.folder / "logged", self.folder / "slurmd.log")
        return "".join(file.read_text(errors="replace") for file in files)


def skip_unless_possible() -> None:
    """Skip by name where there is no Slurm, or we are not root."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here (Debian: slurm-wlm munge)")
    if os.geteuid() != 0:
        pytest.skip("a real Slurm node needs root")
