"""Detection of GPU nodes, with small fake trees of /sys, /proc and /dev."""

import subprocess
import sys
from pathlib import Path

import pytest

from probes.node.hardware import Hardware, detect, gfx_name, kernel_module_version, nvidia_module

H100 = ("0x10de", "0x2330", "0x030200")
CLOSED = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\n"
    "GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n"
)
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  "
    "(dvs-builder@U22-I3-AE18-23-3)  Sun Jul 27 06:54:38 UTC 2025\n"
    "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n"
)


def write(root: Path, path: str, text: str = "") -> None:
    """Make one file of the fake tree."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def pci(root: Path, address: str, ids: tuple[str, str, str], driver: str | None = None) -> Path:
    """Put one PCI function into the fake tree, bound to a driver or to none."""
    folder = root / "sys/bus/pci/devices" / address
    for name, value in zip(("vendor", "device", "class"), ids, strict=True):
        write(folder, name, f"{value}\n")
    if driver is not None:
        bound = root / "sys/bus/pci/drivers" / driver
        bound.mkdir(parents=True, exist_ok=True)
        (folder / "driver").symlink_to(bound)
    return folder


def kfd(root: Path, node: int, **values: int) -> None:
    """Put one node into the fake KFD topology."""
    text = "".join(f"{key} {value}\n" for key, value in values.items())
    write(root, f"sys/class/kfd/kfd/topology/nodes/{node}/properties", text)


def test_empty_tree_is_no_gpu_node(tmp_path: Path) -> None:
    """A tree with nothing in it, or no tree at all, shows no GPU and raises nothing."""
    assert detect(tmp_path) == detect(tmp_path / "absent") == Hardware()


@pytest.mark.parametrize(
    ("ids", "vendor"),
    [
        (H100, "nvidia"),
        (("0x10de", "0x2684", "0x030000"), "nvidia"),  # GeForce RTX 4090, VGA controller
        (("0x1002", "0x74a1", "0x120000"), "amd"),  # MI300X, processing accelerator
        (("0x1002", "0x740f", "0x038000"), "amd"),  # MI210, display controller
        (("0x1002", "0x744c", "0x030000"), "amd"),  # Radeon RX 7900, VGA controller
        (("0x8086", "0x0bd5", "0x038000"), "intel"),  # Data Center GPU Max
        (("0x8086", "0x56a0", "0x030000"), "intel"),  # Arc A770
        (("0x8086", "0xe211", "0x030000"), "intel"),  # Arc Pro B60
        (("0x8086", "0x1234", "0x030200"), "intel"),  # a 3D controller of a number to come
    ],
)
def test_gpu_is_seen_on_pci(tmp_path: Path, ids: tuple[str, str, str], vendor: str) -> None:
    """A GPU without any driver is seen by its PCI numbers alone."""
    pci(tmp_path, "0000:17:00.0", ids)

    found = detect(tmp_path)

    assert found.vendors == (vendor,)
    assert found.pci_addresses == ("0000:17:00.0",)
    assert "0000:17:00.0" in found.evidence[0]


@pytest.mark.parametrize(
    "ids",
    [
        ("0x8086", "0x3e92", "0x030000"),  # UHD 630
        ("0x8086", "0x4692", "0x038000"),  # integrated, no display attached
        ("0x8086", "0x7d1d", "0x120000"),  # Meteor Lake NPU
        ("0x8086", "0x0b2b", "0x120000"),  # FPGA card
        ("0x1002", "0x164e", "0x030000"),  # Raphael, integrated in a desktop Ryzen
        ("0x1002", "0x15bf", "0x038000"),  # Phoenix, integrated in a laptop
        ("0x1a03", "0x2000", "0x030000"),  # ASPEED, a server's console
        ("0x102b", "0x0536", "0x030000"),  # Matrox
        ("0x1af4", "0x1050", "0x030000"),  # virtio-gpu
        ("0x1234", "0x1111", "0x030000"),  # QEMU standard VGA
        ("0x15ad", "0x0405", "0x030000"),  # VMware
        ("0x1414", "0x5353", "0x030000"),  # Hyper-V
        ("0x10de", "0x22a3", "0x068000"),  # NVSwitch
        ("0x10de", "0x228b", "0x040300"),  # the audio function of a GPU
        ("0x1002", "0xab38", "0x040300"),  # same
        ("0x10de", "", "garbage"),
        ("", "", ""),
    ],
)
def test_other_devices_are_no_gpu_node(tmp_path: Path, ids: tuple[str, str, str]) -> None:
    """Integrated graphics, consoles, VM displays, NPUs and side functions raise no alarm."""
    pci(tmp_path, "0000:00:02.0", ids)

    assert detect(tmp_path) == Hardware()


@pytest.mark.parametrize("driver", ["vfio-pci", "pci-stub"])
def test_gpu_given_to_a_virtual_machine_is_not_ours(tmp_path: Path, driver: str) -> None:
    """A GPU bound to a passthrough driver is not usable here; one bound to nouveau is."""
    pci(tmp_path, "0000:17:00.0", H100, driver)
    assert detect(tmp_path) == Hardware()

    pci(tmp_path, "0000:65:00.0", H100, "nouveau")
    assert detect(tmp_path).pci_addresses == ("0000:65:00.0",)


def test_virtual_functions_are_not_counted(tmp_path: Path) -> None:
    """A GPU sliced for virtual machines is still one GPU."""
    physical = pci(tmp_path, "0000:17:00.0", H100, "nvidia")
    slice_ = pci(tmp_path, "0000:17:00.4", H100)
    (slice_ / "physfn").symlink_to(physical)

    assert detect(tmp_path).pci_addresses == ("0000:17:00.0",)


@pytest.mark.parametrize(
    "path",
    [
        "dev/nvidia0",
        "dev/nvidia15",
        "dev/nvidiactl",
        "dev/nvhost-gpu",
        "proc/driver/nvidia/gpus/0000:17:00.0/information",
    ],
)
def test_nvidia_is_seen_where_pci_is_hidden(tmp_path: Path, path: str) -> None:
    """A sandbox without PCI still shows NVIDIA's device nodes or its procfs folder."""
    write(tmp_path, path)

    assert detect(tmp_path).vendors == ("nvidia",)


@pytest.mark.parametrize(
    "path", ["dev/nvidia-uvm", "dev/nvidia-caps/nvidia-cap1", "dev/nvidiafoo", "dev/kfd", "dev/dxg"]
)
def test_other_device_nodes_prove_nothing(tmp_path: Path, path: str) -> None:
    """/dev/kfd exists for an APU and /dev/dxg for any vendor's GPU: neither is evidence alone."""
    write(tmp_path, path)

    assert detect(tmp_path) == Hardware()


@pytest.mark.parametrize(
    "path", ["usr/lib/wsl/lib/libcuda.so.1", "usr/lib/wsl/drivers/nv_dispi.inf_amd64_1/libcuda.so"]
)
def test_wsl_with_nvidia_driver_is_seen(tmp_path: Path, path: str) -> None:
    """WSL has no PCI device and no /dev/nvidia0: /dev/dxg with NVIDIA's libraries is the sign."""
    write(tmp_path, path)
    assert detect(tmp_path) == Hardware()

    write(tmp_path, "dev/dxg")
    assert detect(tmp_path).vendors == ("nvidia",)


@pytest.mark.parametrize(("text", "version"), [(CLOSED, "535.129.03"), (OPEN, "580.65.06")])
def test_kernel_module_version_is_read(tmp_path: Path, text: str, version: str) -> None:
    """Both the closed and the open kernel module name their version, and prove a GPU."""
    write(tmp_path, "proc/driver/nvidia/version", text)

    found = detect(tmp_path)

    assert found.vendors == ("nvidia",)
    assert found.driver_version == version


def test_kernel_module_version_from_sysfs(tmp_path: Path) -> None:
    """If procfs is masked, the module's version file is read; NVIDIA's goes first."""
    write(tmp_path, "sys/module/amdgpu/version", "6.12.12\n")
    assert detect(tmp_path).driver_version == "6.12.12"
    assert nvidia_module(tmp_path) is None

    write(tmp_path, "sys/module/nvidia/version", "570.86.15\n")
    assert detect(tmp_path).driver_version == nvidia_module(tmp_path) == "570.86.15"


def test_unknown_version_text_is_none() -> None:
    """Text that names no module version gives none, and a compiler's version is not taken."""
    assert kernel_module_version("") is None
    assert kernel_module_version("GCC version: gcc version 113.30.1 (x)\n") is None


def test_amd_topology_tells_discrete_from_integrated(tmp_path: Path) -> None:
    """A CPU node and an integrated GPU in KFD's topology are no GPU node; an MI300X is."""
    write(tmp_path, "dev/kfd")
    kfd(tmp_path, 0, cpu_cores_count=16, simd_count=0, gfx_target_version=0)
    kfd(tmp_path, 1, cpu_cores_count=0, simd_count=4, gfx_target_version=100306)
    kfd(tmp_path, 2, cpu_cores_count=0, simd_count=144, gfx_target_version=80003)
    assert detect(tmp_path) == Hardware()

    kfd(tmp_path, 3, cpu_cores_count=0, simd_count=1216, gfx_target_version=90402)
    found = detect(tmp_path)
    assert found.vendors == ("amd",)
    assert found.evidence == ("KFD node 3 is gfx942",)
    assert found.architectures == ("gfx942",)


def test_two_vendors_are_both_named(tmp_path: Path) -> None:
    """A node with GPUs of two vendors names both, and every address."""
    pci(tmp_path, "0000:65:00.0", ("0x1002", "0x744c", "0x030000"))
    pci(tmp_path, "0000:17:00.0", H100)

    found = detect(tmp_path)

    assert found.vendors == ("nvidia", "amd")
    assert found.pci_addresses == ("0000:17:00.0", "0000:65:00.0")


@pytest.mark.parametrize(
    ("version", "name"), [(90402, "gfx942"), (90010, "gfx90a"), (110000, "gfx1100")]
)
def test_gfx_names(version: int, name: str) -> None:
    """KFD's numbers become the names that compilers and wheels use."""
    assert gfx_name(version) == name


def test_needs_neither_torch_nor_numpy() -> None:
    """The supervisor can detect hardware without importing torch."""
    code = (
        "import sys, probes.node.hardware as h; h.detect(); "
        "print(*{'torch', 'numpy'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.split() == []
