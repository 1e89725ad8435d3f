"""The prolog on this machine, without a Slurm around it: what it asks about, and its verdict."""

import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests.deploy.slurm_lab import SCRIPTS

pytestmark = pytest.mark.slow

#: A driver's folder that knows one GPU.
INFORMATION = """Model: \t\t NVIDIA H100 80GB HBM3
GPU UUID: \t GPU-7d8c1b0a-1111-2222-3333-000000000000
Device Minor: \t 0
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """The scripts, set up to run the probes here and to keep everything in a folder of ours."""
    folder = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, folder)
    command = tmp_path / "gpu-validator"
    command.write_text(
        f"#!/bin/sh\nenv > {tmp_path}/environment\n"
        f'printf "%s\\n" "$@" > {tmp_path}/arguments\n'
        f'exec {sys.executable} -m validator "$@" --probe cuda_available\n'
    )
    command.chmod(0o755)
    settings = folder / "settings"
    settings.write_text(
        f"{settings.read_text()}\nGPU_VALIDATOR={command}\nMAX_AGE=\nLOGGER=\n"
        f"STATE_DIR={tmp_path}/kept\nNVIDIA_GPUS={tmp_path}/gpus\nPROLOG_BUDGET_S=60\n"
    )
    return folder


def prolog(scripts: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the prolog as Slurm does, with few variables."""
    return subprocess.run(
        ["/bin/sh", scripts / "prolog"],
        env={"PYTHONPATH": str(SCRIPTS.parents[1]), "SLURM_JOB_ID": "7", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def asked(scripts: Path) -> tuple[list[str], str]:
    """The devices that were asked about, and what CUDA was told to show."""
    arguments = (scripts.parent / "arguments").read_text().split("\n")
    environment = (scripts.parent / "environment").read_text().split("\n")
    devices = [value for option, value in pairwise(arguments) if option == "--device"]
    shown = [line.partition("=")[2] for line in environment if line.startswith("CUDA_VIS")]
    return devices, "".join(shown)


def without_a_gpu() -> None:
    """These tests are about machines without one."""
    if torch.cuda.is_available() or os.access("/dev/nvidiactl", os.F_OK):
        pytest.skip("a GPU is here")


def test_no_job_starts_on_a_gpu_that_is_not_there(scripts: Path) -> None:
    """Slurm gives GPU 0, and no GPU is in this machine: the job must not start."""
    without_a_gpu()
    done = prolog(scripts, SLURM_JOB_GPUS="0", CUDA_VISIBLE_DEVICES="0")

    assert done.returncode == 1
    assert "fail: cuda_available on cpu" in done.stderr
    assert asked(scripts) == (["cuda:0"], "")
    assert (scripts.parent / "kept/drained").read_text().startswith("fail: cuda_available")


def test_nor_on_one_that_only_the_drivers_folder_knows(scripts: Path) -> None:
    """The driver lists it, CUDA does not: it fell off the bus, or the driver is half dead."""
    without_a_gpu()
    folder = scripts.parent / "gpus/0000:17:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text(INFORMATION)
    done = prolog(scripts, SLURM_JOB_GPUS="0", CUDA_VISIBLE_DEVICES="0")

    uuid = "GPU-7d8c1b0a-1111-2222-3333-000000000000"

    assert done.returncode == 1
    assert asked(scripts) == ([uuid], uuid)


@pytest.mark.parametrize(("driver", "code"), [(False, 0), (True, 1)])
def test_a_guessed_number_drains_nothing(scripts: Path, driver: bool, code: int) -> None:  # noqa: FBT001
    """Slurm may number AMD's GPUs by their files, 128 and up; NVIDIA's numbers are the driver's."""
    if driver:
        folder = scripts.parent / "gpus/0000:17:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(INFORMATION)
    command = scripts.parent / "gpu-validator"
    verdict = "fail: cuda_available on cuda:128: not here, though it was asked for: there is cuda:0"
    command.write_text(f"#!/bin/sh\necho 'x {verdict} - 3.2 s'\nexit 1\n")
    done = prolog(scripts, SLURM_JOB_GPUS="128")

    assert done.returncode == code
    assert f"{'fail' if driver else 'error'}: cuda_available on cuda:128: not here" in done.stderr


def test_instances_are_asked_about_by_uuid(scripts: Path) -> None:
    """Of MIG instances SLURM_JOB_GPUS has Slurm's own numbers; the other variable has UUIDs."""
    prolog(scripts, SLURM_JOB_GPUS="3,5", CUDA_VISIBLE_DEVICES="MIG-a,MIG-b")

    assert asked(scripts) == (["MIG-a", "MIG-b"], "MIG-a,MIG-b")


def test_a_job_without_gpus_starts(scripts: Path) -> None:
    """Nothing is asked about."""
    done = prolog(scripts, CUDA_VISIBLE_DEVICES="NoDevFiles")

    assert done.returncode == 0
    assert not (scripts.parent / "arguments").exists()
