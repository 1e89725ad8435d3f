"""The GPU vendors of this machine, found without torch and without calling a driver.

Without this, a CPU build of torch on a GPU node would look like a node without GPUs. These do not
count as GPUs: integrated graphics, the display adapter of a server or VM, an NPU, and a GPU passed
to a VM. A container sees the host's sysfs and most of its procfs, so a container without GPUs
still sees that the node has some.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from probes.contract import Frozen

Vendor = Literal["nvidia", "amd", "intel"]

_PCI_VENDORS: Final[dict[str, Vendor]] = {"10de": "nvidia", "1002": "amd", "8086": "intel"}

#: Drivers that reserve a GPU for a virtual machine: this system cannot use it.
GIVEN_AWAY: Final = {"vfio-pci", "pci-stub", "nvgrace_gpu_vfio_pci", "nvidia_vgpu_vfio", "gim"}

# AMD compute GPUs of class 0x0300 or 0x0380, which integrated graphics share; MI300 and later are
# 0x1200. Source: https://pci-ids.ucw.cz/read/PC/1002
_AMD_DISCRETE: Final = (
    {0x6860, 0x6861, 0x6862, 0x6863, 0x6864, 0x6867, 0x6868, 0x686C, 0x687F}  # Vega 10, MI25
    | {0x66A0, 0x66A1, 0x66A2, 0x66A3, 0x66A7, 0x66AF}  # Vega 20, MI50, MI60
    | {0x7388, 0x738C, 0x738E, 0x7390}  # MI100
    | {0x7408, 0x740C, 0x740F, 0x7410}  # MI210, MI250
    | {0x73A1, 0x73A2, 0x73A3, 0x73A5, 0x73AB, 0x73AE, 0x73AF, 0x73BF}  # Navi 21
    | {0x7448, 0x7449, 0x744A, 0x744B, 0x744C, 0x745E, 0x7460, 0x7470, 0x747E}  # Navi 31, 32
    | {0x7550, 0x7551, 0x7590}  # Navi 48, 44
)

# KFD's `gfx_target_version` (major * 10000 + minor * 100 + stepping) of integrated graphics:
# gfx902, 909, 90c, 1013, 1033, 1035, 1036, 1103, 1150-1153. Source: LLVM, AMDGPUUsage.
_AMD_INTEGRATED: Final = {90002, 90009, 90012, 100103, 100303, 100305, 100306, 110003} | set(
    range(110500, 110504)
)
_OLDEST_GFX: Final = 90000  # nothing before gfx900 is in any build of torch that we support

# Intel's discrete GPUs; by number, since its NPUs and FPGAs are of class 0x1200 as well.
# Source: https://dgpu-docs.intel.com/devices/hardware-table.html
_INTEL_DISCRETE: Final = (
    {0x0B69, 0x0B6E}
    | set(range(0x0BD0, 0x0BDC))  # Data Center GPU Max
    | set(range(0x56C0, 0x56C3))  # Data Center GPU Flex
    | set(range(0x5690, 0x5699))  # Arc A, mobile
    | set(range(0x56A0, 0x56A7))  # Arc A
    | set(range(0x56B0, 0x56B4))  # Arc Pro A
    | set(range(0x56BA, 0x56BE))
    | {0xE202, 0xE20B, 0xE20C, 0xE20D, 0xE210, 0xE211, 0xE212, 0xE215, 0xE216}  # Arc B
    | set(range(0xE220, 0xE224))  # Arc Pro B
)


#: Vendor of a GPU -> the build of torch for it, as a folder of PyTorch's own package index.
_WHEELS: Final[dict[Vendor, str]] = {"nvidia": "cu126", "amd": "rocm6.4", "intel": "xpu"}


def wheel_index(vendors: tuple[Vendor, ...]) -> str:
    """The package index with builds of torch for the first of these vendors' GPUs."""
    folder = _WHEELS[vendors[0]] if vendors else "cpu"
    return f"https://download.pytorch.org/whl/{folder}"


class Hardware(Frozen):
    """The GPUs of this machine and the evidence for them. No vendors: no GPU was found."""

    vendors: tuple[Vendor, ...] = ()
    evidence: tuple[str, ...] = ()
    pci_addresses: tuple[str, ...] = ()  # of GPUs only, without virtual functions created here
    driver_version: str | None = None  # of the loaded kernel module: nvidia, else amdgpu
    architectures: tuple[str, ...] = ()  # gfx942 of each AMD GPU; hidden ones too


class _Evidence(NamedTuple):
    vendor: Vendor
    evidence: str
    pci_address: str | None = None
    architecture: str | None = None


def detect(root: Path = Path("/")) -> Hardware:
    """Find GPUs in the file system under `root`. What cannot be read counts as no evidence."""
    evidence = [*_pci(root), *_nvidia(root), *_amd(root)]
    found = {each.vendor for each in evidence}
    return Hardware(
        vendors=tuple(vendor for vendor in _PCI_VENDORS.values() if vendor in found),
        evidence=tuple(each.evidence for each in evidence),
        pci_addresses=tuple(each.pci_address for each in evidence if each.pci_address is not None),
        driver_version=nvidia_module(root) or file_text(root / "sys/module/amdgpu/version") or None,
        architectures=tuple(
            each.architecture for each in evidence if each.architecture is not None
        ),
    )


def nvidia_module(root: Path = Path("/")) -> str | None:
    """The version of NVIDIA's loaded kernel module; None when none is loaded."""
    version = kernel_module_version(file_text(root / "proc/driver/nvidia/version"))
    return version or file_text(root / "sys/module/nvidia/version") or None


def kernel_module_version(text: str) -> str | None:
    """`535.129.03` from the first line of /proc/driver/nvidia/version, closed or open module."""
    match = re.search(r"^NVRM version:.*?\s(\d{3,}\.\d+(?:\.\d+)?)\s", text + "\n", re.MULTILINE)
    return match[1] if match else None


def file_text(path: Path) -> str:
    """The text of a file, stripped; empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # missing, hidden from this container, or unplugged meanwhile
        return ""


def sysfs_number(path: Path) -> int:
    """A sysfs value such as 0x030200; -1 when it cannot be read."""
    text = file_text(path)
    return int(text, 16) if re.fullmatch(r"(0x)?[0-9a-fA-F]+", text) else -1


def _pci(root: Path) -> Iterator[_Evidence]:
    for folder in sorted(root.glob("sys/bus/pci/devices/*")):
        number = sysfs_number(folder / "vendor")
        vendor = _PCI_VENDORS.get(f"{number:04x}")
        kind = sysfs_number(folder / "class") >> 8  # the last byte is the programming interface
        device = sysfs_number(folder / "device")
        if vendor is None or not is_gpu(vendor, kind, device):
            continue
        driver = folder / "driver"
        if (folder / "physfn").exists():  # a virtual function, made here for virtual machines
            continue
        if driver.exists() and driver.resolve().name in GIVEN_AWAY:
            continue
        name = f"PCI {folder.name} is {number:04x}:{device:04x} of class {kind:04x}"
        yield _Evidence(vendor, name, folder.name)


def is_gpu(vendor: Vendor, kind: int, device: int) -> bool:
    """Whether a PCI function is a compute GPU. `kind` is its class and subclass."""
    if vendor == "nvidia":  # its audio, USB and NVSwitch functions are of other classes
        return kind >> 8 == 0x03
    if vendor == "amd":
        return kind in {0x0302, 0x1200} or (kind >> 8 == 0x03 and device in _AMD_DISCRETE)
    return kind == 0x0302 or (kind >> 8 == 0x03 and device in _INTEL_DISCRETE)


def _nvidia(root: Path) -> Iterator[_Evidence]:
    if version := kernel_module_version(file_text(root / "proc/driver/nvidia/version")):
        yield _Evidence("nvidia", f"/proc/driver/nvidia/version says {version}")
    if gpus := sorted(path.name for path in root.glob("proc/driver/nvidia/gpus/*")):
        yield _Evidence("nvidia", f"/proc/driver/nvidia/gpus lists {', '.join(gpus)}")
    nodes = [path.name for path in root.glob("dev/nvidia*")]
    nodes = sorted(name for name in nodes if re.fullmatch(r"nvidia(\d+|ctl)", name))
    for name in nodes:
        yield _Evidence("nvidia", f"/dev/{name} exists")
    if (root / "dev/nvhost-gpu").exists():  # Jetson: a GPU without PCI
        yield _Evidence("nvidia", "/dev/nvhost-gpu exists")
    # WSL shows /dev/dxg for a GPU of any vendor; NVIDIA's driver brings libcuda beside it.
    drivers = [*root.glob("usr/lib/wsl/lib/libcuda.so*"), *root.glob("usr/lib/wsl/drivers/nv*")]
    if (root / "dev/dxg").exists() and drivers:
        yield _Evidence("nvidia", "/dev/dxg exists, with NVIDIA's driver under /usr/lib/wsl")


def _amd(root: Path) -> Iterator[_Evidence]:
    # /dev/kfd exists for an APU too, so the KFD topology is needed to tell them apart.
    for properties in sorted(root.glob("sys/class/kfd/kfd/topology/nodes/*/properties")):
        pairs = re.findall(r"^(\w+) (\d+)$", file_text(properties), re.MULTILINE)
        values = {key: int(value) for key, value in pairs}
        gfx = values.get("gfx_target_version", 0)
        if values.get("simd_count", 0) and gfx >= _OLDEST_GFX and gfx not in _AMD_INTEGRATED:
            node = properties.parent.name
            name = gfx_name(gfx)
            yield _Evidence("amd", f"KFD node {node} is {name}", architecture=name)


def gfx_name(version: int) -> str:
    """The compiler's name for KFD's version number: 90402 is gfx942, 90010 is gfx90a."""
    major, minor, stepping = version // 10000, version // 100 % 100, version % 100
    return f"gfx{major}{minor:x}{stepping:x}"
