"""A node of Slurm without Slurm: the scripts beside a made-up command and controller."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from probes.contract import Result
from tests.deploy.slurm_lab import SCRIPTS
from tests.validator.reports import GPUS, report, result
from validator.report import CPU, NotRun, to_json

#: Every file of the folder that a site installs.
FILES: Final = tuple(sorted(path.name for path in SCRIPTS.iterdir()))

#: `scontrol show node` and `scontrol update`, as the real one answers with SLURM_TIME_FORMAT=%s.
_SCONTROL: Final = r"""#!/bin/sh
cd @FOLDER@/controller || exit 1
printf '%s\n' "$*" >>asked
[ ! -e down ] || { echo 'slurm_load_node error: Unable to contact slurm controller' >&2; exit 1; }
case $1 in
show)
    printf 'NodeName=%s Arch=x86_64 CoresPerSocket=1 \n   Gres=%s\n' "$3" "$(cat gres)"
    printf '   NodeAddr=10.0.0.1 NodeHostName=%s Version=22.05.8\n' "$(cat host)"
    printf '   State=%s ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A\n' "$(cat state)"
    if [ -s reason ]; then printf '   Reason=%s [%s]\n' "$(cat reason)" "$(cat stamp)"; fi
    if [ -s comment ]; then printf '   Comment=%s\n' "$(cat comment)"; fi
    exit 0
    ;;
esac
printf '%s\n' "$*" >>updates
for word in "$@"; do
    case $word in
    State=RESUME) echo IDLE >state; : >reason ;;
    State=DRAIN) echo "$(cat state)+DRAIN" >state ;;
    Reason=*)
        if [ "${word#Reason=}" != "$(cat reason)" ]; then
            printf '%s' "${word#Reason=}" >reason
            echo "$(id -un)@$(date +%s)" >stamp
        fi
        ;;
    esac
done
[ ! -e dies ] || mv dies down
"""

_COMMAND: Final = """#!/bin/sh
case " $* " in *" json "*) form=json ;; *) form=quick ;; esac
printf '%s\\n' "$form $*" >>@FOLDER@/calls
env >@FOLDER@/environment-$form
. @FOLDER@/$form.sh
"""


class Node:
    """The folder of one node: scripts, controller, command and what was kept."""

    def __init__(self, folder: Path) -> None:
        """An idle node that is well."""
        self.folder = folder
        self.kept = folder / "kept"
        self.controller = folder / "controller"
        self.controller.mkdir()
        shutil.copytree(SCRIPTS, folder / "scripts")
        for name, text in (("scontrol", _SCONTROL), ("gpu-validator", _COMMAND)):
            (folder / name).write_text(text.replace("@FOLDER@", str(folder)))
            (folder / name).chmod(0o755)
        (folder / "logger").write_text(f'#!/bin/sh\necho "$@" >>{folder}/logged\n')
        (folder / "logger").chmod(0o755)
        (folder / "logged").touch()
        (folder / "slurm.conf").touch()
        self.slurmctld(state="IDLE", reason="", gres="(null)", host=os.uname().nodename, stamp="")
        self.set()
        self.quick("pass: 12 probes")
        self.standard(sound())

    def set(self, **settings: object) -> None:
        """Write the settings; what is not named is as for a test."""
        values: dict[str, object] = {
            "GPU_VALIDATOR": self.folder / "gpu-validator",
            "SERVER": f"unix:{self.folder}/daemon",
            "MAX_AGE": "",
            "EPILOG_MAX_AGE": settings.get("MAX_AGE", ""),
            "STATE_DIR": self.kept,
            "NVIDIA_GPUS": self.folder / "driver/gpus",
            "LOGGER": self.folder / "logger",
            "SCONTROL": self.folder / "scontrol",
            "SLURM_CONF": self.folder / "slurm.conf",
            "RESUME_WAIT": "0",
            **settings,
        }
        text = (SCRIPTS / "settings").read_text(encoding="utf-8")
        lines = "".join(f"{name}='{value}'\n" for name, value in values.items())
        (self.folder / "scripts/settings").write_text(text + lines)

    def slurmctld(self, **told: str) -> None:
        """What the controller has of the node from now on."""
        for name, value in told.items():
            (self.controller / name).write_text(value)

    def quick(self, verdict: str) -> None:
        """What the command says of profile quick from now on."""
        code = {"pass": 0, "warn": 0, "fail": 1}.get(verdict.partition(":")[0], 2)
        (self.folder / "said").write_text(f"x {verdict} - 3.2 s\n")
        (self.folder / "quick.sh").write_text(f"cat {self.folder}/said\nexit {code}\n")

    def standard(self, document: str, code: int | None = None, before: str = "") -> None:
        """What it says of profile standard from now on, in JSON."""
        if code is None:
            found = re.search('"status":"([a-z]+)"', document)
            code = {"pass": 0, "warn": 0, "fail": 1}.get(found[1] if found else "", 2)
        (self.folder / "document").write_text(document)
        script = f"{before}\ncat {self.folder}/document\nexit {code}\n"
        (self.folder / "json.sh").write_text(script)

    def run(self, script: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a script as Slurm does, with few variables."""
        known = {"PYTHONPATH": str(SCRIPTS.parents[1]), "SLURMD_NODENAME": "n1"}
        return subprocess.run(
            ["/bin/sh", self.folder / "scripts" / script],
            env={**known, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def check(self, times: int = 1) -> None:
        """So many health checks, each with the check of the idle node that it starts."""
        for _ in range(times):
            self.run("healthcheck")
            self.settle()

    def settle(self) -> None:
        """Wait until no check of the idle node runs."""
        lock = self.kept / "idle.lock"
        if lock.exists():
            subprocess.run(["flock", "-w", "20", lock, "true"], check=True)

    def edit(self, name: str, value: object) -> None:
        """Change a line of what was kept."""
        record = self.kept / "record"
        text = re.sub(rf"(?m)^{name} .*$", f"{name} {value}", record.read_text())
        record.write_text(text)

    @property
    def state(self) -> str:
        """As the controller has it."""
        return (self.controller / "state").read_text().strip()

    @property
    def updates(self) -> str:
        """What it was told of the node."""
        told = self.controller / "updates"
        return told.read_text() if told.exists() else ""

    @property
    def reason(self) -> str:
        """Its text, without who and when."""
        return (self.controller / "reason").read_text()

    @property
    def standards(self) -> int:
        """How often profile standard ran."""
        calls = self.folder / "calls"
        text = calls.read_text() if calls.exists() else ""
        return len(re.findall(r"(?m)^json check .*--profile standard( |$)", text))

    @property
    def log(self) -> str:
        """What the scripts logged."""
        return (self.folder / "logged").read_text()

    def promised(self, form: str = "quick") -> str | None:
        """GPU_VALIDATOR_EXPECT__GPUS, as the command saw it last."""
        text = (self.folder / f"environment-{form}").read_text()
        found = re.search(r"(?m)^GPU_VALIDATOR_EXPECT__GPUS=(.*)$", text)
        return found[1] if found else None


def document(results: Sequence[Result], not_run: Sequence[NotRun] = (), **fields: Any) -> str:
    """A report of profile standard, as `check --output json` writes it."""
    values = {"profile": "standard", "devices": (*GPUS, CPU), **fields}
    return to_json(report(results, not_run, **values))


def sound(*more: Result, not_run: Sequence[NotRun] = ()) -> str:
    """All four GPUs are well, but for what is told of them."""
    well = [result("autograd", gpu.name, gpu_uuid=gpu.uuid) for gpu in GPUS]
    left = result("telemetry", status="skip", reason="not_applicable", summary='"reason":"x"')
    return document([*well, left, *more], not_run)


def wrong(summary: str = "3 of 9 elements wrong") -> str:
    """One of them is not."""
    return sound(result("matmul", "cuda:2", "fail", summary=summary))
