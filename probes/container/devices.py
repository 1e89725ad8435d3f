"""Whether the device nodes and libraries of the GPUs are given to this process."""

import re
from typing import Final

from probes.container.observation import Observation
from probes.container.spec import SPEC, Limits
from probes.contract import Finding, require, skipped
from probes.node import device_nodes as nodes_of

#: Device nodes by which a system of one GPU type shows it in another way.
_OTHER_NODES: Final = ("/dev/dxg", "/dev/nvhost-gpu")


def device_nodes(observation: Observation, limits: Limits) -> Finding:
    """A node that cannot be opened says that access was lost, not that the GPU is bad."""
    check = f"{SPEC.name}.device_nodes"
    vendors = observation.hardware.vendors
    promised = limits.gpus if isinstance(limits.gpus, int) else 0
    if not vendors:
        return skipped(check, "no GPU of a known vendor is here")
    if any(text.startswith(_OTHER_NODES) for text in observation.hardware.evidence):
        return skipped(check, "the GPU here is reached without device nodes of its own")
    present = [node for node in observation.nodes if not node.problem.startswith("ENOENT")]
    if not present:
        if not promised:
            return skipped(check, "no GPU is given to this process: it has no device node")
        return Finding(
            id=check,
            status="fail",
            message=f"{promised} GPUs are promised, and no device node of a GPU is here",
            observed=[],
            expected="device nodes",
            hint="`--gpus all` of docker run, a GPU in the pod's resources, `--nv` of Apptainer; "
            "look at what the container toolkit logs",
            action="recreate_container",
        )
    bad = [node for node in observation.nodes if not _is_no_matter(node, observation, promised)]
    problems = [f"{node.path}: {node.problem}" for node in bad]
    lost = any(not node.problem.startswith("ENOENT") for node in bad)
    refused = any(node.problem.startswith(_REFUSED) for node in bad)
    return require(
        check,
        not problems,
        [*problems],
        "every node opens that this process was given",
        message="; ".join(problems),
        hint="missing: `nvidia-modprobe -u -c=0` on the host, and recreate the container; refused: "
        "a reload of systemd takes devices away, so recreate the container, and see that the "
        "toolkit uses CDI or cgroupfs; for AMD and Intel: the groups `render` and `video`; another "
        "error: `dmesg | tail` says why the driver could not start the GPU",
        action="recreate_container" if refused or not lost else "investigate",
        otherwise="error" if lost else "warn",
    )


_REFUSED: Final = ("EPERM", "EACCES")
_OF_A_GPU: Final = re.compile(r"/(nvidia|dri/renderD)\d+$")


def _is_no_matter(node: nodes_of.Node, observation: Observation, promised: int) -> bool:
    """Whether a node opens, or need not: of another job's GPU, or made by the driver when used."""
    if not node.problem:
        return True
    if node.problem.startswith("ENOENT"):  # a setuid program of the driver's makes it on a host
        return not observation.container.kind and node.path.endswith("/nvidia-uvm")
    opened = [each.path for each in observation.nodes if not each.problem]
    own = sum(_OF_A_GPU.search(path) is not None for path in opened)
    return (
        node.problem.startswith(_REFUSED)
        and _OF_A_GPU.search(node.path) is not None
        and own >= max(promised, 1)
    )


def driver_capabilities(observation: Observation) -> Finding:
    """What NVIDIA's toolkit is asked to bring into a container."""
    check, name = f"{SPEC.name}.driver_capabilities", "NVIDIA_DRIVER_CAPABILITIES"
    value = observation.variables.get(name)
    if "nvidia" not in observation.hardware.vendors or not value:
        return skipped(check, f"{name} is not set, or no GPU of NVIDIA's is here")
    if not observation.container.kind:
        return skipped(check, "no toolkit reads it here: this is no container")
    asked = {part.strip() for part in value.split(",")}
    missing = sorted({"compute", "utility"} - asked) if "all" not in asked else []
    return require(
        check,
        not missing,
        value,
        "compute,utility",
        message=f"{name} is {value}, without {' and '.join(missing)}: no libcuda, or no NVML",
        hint=f"{name}=compute,utility in the image or the pod",
        action="fix_config",
        otherwise="warn",
    )
