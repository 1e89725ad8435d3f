"""NVIDIA GPUs on a PCI bus, and detection of containers, with small fake trees."""

from pathlib import Path

import pytest

from probes.node.containers import Container
from probes.node.containers import read as read_container
from probes.node.pci_gpus import PciGpu, read
from tests.probes.node.test_hardware import H100, pci, write

INFORMATION = """Model: \t\t NVIDIA H100 80GB HBM3
IRQ:   \t\t 234
GPU UUID: \t GPU-6f2d1c3b-90aa-4be1-8c35-5d1f0e7a2b00
Bus Type: \t PCIe
Bus Location: \t 0000:17:00.0
Device Minor: \t 3
GPU Firmware: \t 550.54.15
GPU Excluded:\t No
"""


def write_information(root: Path, address: str, text: str = INFORMATION) -> None:
    """Write the driver's information file of a GPU."""
    write(root, f"proc/driver/nvidia/gpus/{address}/information", text)


def test_a_gpu_is_read_whole(tmp_path: Path) -> None:
    """Address, model, driver and the number of its device node."""
    pci(tmp_path, "0000:17:00.0", H100, "nvidia")
    write_information(tmp_path, "0000:17:00.0")

    assert read(tmp_path) == (
        PciGpu(address="0000:17:00.0", model=0x2330, driver="nvidia", minor=3),
    )


def test_only_nvidias_gpus_are_read(tmp_path: Path) -> None:
    """No other vendor's, no NVSwitch, no audio function, no slice made for a virtual machine."""
    physical = pci(tmp_path, "0000:17:00.0", H100, "nvidia")
    slice_ = pci(tmp_path, "0000:17:00.4", H100)
    (slice_ / "physfn").symlink_to(physical)
    pci(tmp_path, "0000:01:00.0", ("0x8086", "0x56a0", "0x030000"))
    pci(tmp_path, "0000:05:00.0", ("0x10de", "0x22a3", "0x068000"))
    pci(tmp_path, "0000:17:00.1", ("0x10de", "0x228b", "0x040300"))

    assert [gpu.address for gpu in read(tmp_path)] == ["0000:17:00.0"]
    assert read(tmp_path / "absent") == ()


def test_a_gpu_of_a_virtual_machine_is_marked(tmp_path: Path) -> None:
    """It is listed with its driver."""
    pci(tmp_path, "0000:17:00.0", H100, "vfio-pci")
    pci(tmp_path, "0000:65:00.0", H100, "nouveau")
    pci(tmp_path, "0000:75:00.0", H100)

    assert [gpu.given_away for gpu in read(tmp_path)] == [True, False, False]
    assert [gpu.driver for gpu in read(tmp_path)] == ["vfio-pci", "nouveau", None]


def test_an_excluded_gpu_is_marked(tmp_path: Path) -> None:
    """By the driver's information; a GPU that it could not start has no UUID there."""
    pci(tmp_path, "0000:17:00.0", H100, "nvidia")
    write_information(
        tmp_path, "0000:17:00.0", INFORMATION.replace("Excluded:\t No", "Excluded:\t Yes")
    )

    assert read(tmp_path)[0].excluded


@pytest.mark.parametrize(
    ("config", "answers"), [(b"\xde\x10\x30\x23", True), (b"\xff" * 64, False)]
)
def test_a_gpu_that_fell_off_the_bus_reads_as_ones(
    tmp_path: Path,
    config: bytes,
    answers: bool,  # noqa: FBT001
) -> None:
    """Its numbers are still listed; only its configuration space shows it."""
    folder = pci(tmp_path, "0000:17:00.0", H100, "nvidia")
    hidden = read(tmp_path)[0]
    (folder / "config").write_bytes(config)

    assert hidden.answers
    assert read(tmp_path)[0].answers is answers


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (".dockerenv", "a container"),
        ("run/.containerenv", "a container"),
        (".singularity.d/labels.json", "a container"),
        ("run/host/container-manager", "a container"),
        ("dev/lxd/sock", "a container"),
        ("var/run/secrets/kubernetes.io/serviceaccount/token", "a Kubernetes pod"),
    ],
)
def test_a_container_is_detected_by_files(tmp_path: Path, path: str, kind: str) -> None:
    """Each engine leaves a file; a tree without one is a host."""
    host = read_container({}, tmp_path)
    write(tmp_path, path)

    assert host == Container()
    assert read_container({}, tmp_path).kind == kind


def test_a_container_is_detected_by_variables(tmp_path: Path) -> None:
    """A pod is a pod, whatever else is there."""
    write(tmp_path, ".dockerenv")

    assert read_container({"container": "podman"}, tmp_path).kind == "a container"
    assert read_container({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path).kind == (
        "a Kubernetes pod"
    )


MOUNTS = """612 500 0:63 / / rw,relatime master:200 - overlay overlay rw,lowerdir=/var/lib
613 612 0:66 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
"""
TOOLKIT = "640 613 0:80 / /proc/driver/nvidia rw,nosuid,noexec - tmpfs tmpfs rw,mode=555\n"


def test_mounts_show_an_engine_and_nvidias_toolkit(tmp_path: Path) -> None:
    """An overlay root means a container; a mount over the driver's folder means the toolkit."""
    lxc = tmp_path / "lxc"
    write(lxc, "proc/self/mountinfo", "9 8 0:44 / /proc/meminfo rw - fuse.lxcfs lxcfs rw\n")
    write(tmp_path, "proc/self/mountinfo", MOUNTS)
    plain = read_container({}, tmp_path)
    write(tmp_path, "proc/self/mountinfo", MOUNTS + TOOLKIT)
    write(tmp_path, "var/run/nvidia-container-devices/GPU-1")

    assert plain == Container(kind="a container")
    assert read_container({}, lxc) == Container(kind="a container")
    assert read_container({}, tmp_path) == Container(
        kind="a container", toolkit=True, by_mounts=True
    )
