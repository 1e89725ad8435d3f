"""NVIDIA's error codes (Xid) as data: what each means for the node, and where that is said."""

from typing import Final, Literal, NamedTuple

from probes.contract import Action, Status

#: NVIDIA's classes of resolution, with `NVLINK` and `ECC` for the workflows of those names.
Bucket = Literal[
    "restart_app", "ignore", "reset", "reboot", "ecc", "nvlink", "support", "announced"
]

#: Bucket -> the status of a recent line, and what to do.
MEANINGS: Final[dict[Bucket, tuple[Status, Action]]] = {
    "restart_app": ("pass", "none"),
    "ignore": ("pass", "none"),
    "announced": ("pass", "none"),  # the recovery action itself is a check
    "support": ("warn", "investigate"),
    "nvlink": ("warn", "investigate"),
    "ecc": ("fail", "reset_gpu"),
    "reset": ("fail", "reset_gpu"),
    "reboot": ("fail", "reboot_node"),
}

_CATALOG: Final = "https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html"
_SENTINEL: Final = "https://github.com/NVIDIA/NVSentinel (xiderrorsmapping.csv)"
_MEMORY: Final = "https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/index.html"
_HEALTH: Final = "https://docs.nvidia.com/health-validation/reference/checks/xid.md"


class Code(NamedTuple):
    """One code: its meaning in a few words, NVIDIA's class of it, and the source of that class."""

    text: str
    bucket: Bucket
    source: str = _SENTINEL


#: The code by which the driver announces that the recovery action of a GPU has changed.
RECOVERY_CHANGED: Final = 154

CODES: Final[dict[int, Code]] = {
    8: Code("a channel stopped", "restart_app", _CATALOG),
    11: Code("an invalid command stream", "restart_app", _CATALOG),
    13: Code("an exception of the compute engine, mostly the application's", "restart_app"),
    14: Code("a test of the driver's", "ignore"),
    25: Code("an illegal notification of the compute engine", "restart_app"),
    31: Code("a memory access outside of what was allocated", "restart_app"),
    32: Code("an invalid command stream", "restart_app"),
    37: Code("an unknown method of the firmware", "ignore"),
    38: Code("a watchdog of the firmware", "ignore"),
    **{
        code: Code("an exception of a copy engine", "restart_app")
        for code in (*range(39, 42), *range(70, 73), *range(75, 78), 85, *range(126, 136))
    },
    43: Code("an application's channel was reset", "ignore"),
    44: Code("a fault while contexts were switched", "ignore"),
    45: Code("a channel was removed, mostly with its process", "ignore"),
    46: Code("the GPU stopped processing", "reset", _HEALTH),
    48: Code("an uncorrected memory error", "ecc", _HEALTH),
    54: Code("auxiliary power is not connected", "support"),
    58: Code("an error of the memory", "support"),
    60: Code("an error of a security engine", "restart_app"),
    61: Code("the power controller stopped", "support"),
    62: Code("the power controller halted", "reset"),
    63: Code("a row will be remapped, or a page retired, at the next reset", "ignore", _MEMORY),
    64: Code("a row could not be remapped, or a page not be retired", "reset"),
    66: Code("an illegal access by a driver", "ignore"),
    67: Code("an access that the firmware refused", "ignore"),
    **{
        code: Code("an exception of a video or picture engine", "restart_app")
        for code in (68, 82, 83, 84, 86, 88, 89, *range(96, 106), 139)
    },
    69: Code("an error of the compute class", "restart_app"),
    74: Code("an error of an NVLink", "nvlink"),
    78: Code("a vGPU could not be started", "support"),
    79: Code("the GPU has fallen off the bus", "reboot"),
    80: Code("corrupted data was sent to the GPU", "restart_app"),
    90: Code("an error of the L2 cache", "support"),
    92: Code("many corrected memory errors", "ignore"),
    93: Code("the InfoROM has been erased too often", "ignore"),
    94: Code("an uncorrected error that hit one application alone", "restart_app", _MEMORY),
    95: Code("an uncorrected error that may have hit every application", "reset", _MEMORY),
    106: Code("a test of the management bus", "ignore"),
    107: Code("a test of the management bus", "ignore"),
    109: Code("a switch of contexts took too long", "reset"),
    110: Code("a security fault", "reset"),
    119: Code("the GPU's system processor does not answer", "reset"),
    120: Code("an error of the GPU's system processor", "reset"),
    121: Code("a corrected error of the link to the CPU", "ignore"),
    122: Code("the board's flash cannot be read", "support"),
    123: Code("the board's flash cannot be written", "support"),
    125: Code("an error of the InfoROM's file system", "support"),
    136: Code("an NVLink could not be trained", "reset"),
    137: Code("an illegal access of a peer's memory", "ignore"),
    140: Code("an uncorrected error that was not contained", "reset"),
    141: Code("an error of a channel's fast path", "ignore"),
    143: Code("the GPU could not be initialised", "reset"),
    **{code: Code("an error of an NVLink", "nvlink") for code in range(144, 151)},
    RECOVERY_CHANGED: Code("the recovery action has changed", "announced"),
    151: Code("an error of the rotation of keys", "support"),
    152: Code("an error of the deep learning engine's memory", "ignore"),
    153: Code("a timeout of the deep learning engine", "ignore"),
    155: Code("an error of an NVLink that software defined", "reset"),
    156: Code("a part of the GPU will be retired at the next reset", "reset"),
    157: Code("a part of the GPU could not be retired", "ignore"),
    158: Code("a fatal timeout of the GPU", "reset"),
    159: Code("an error of the link to the CPU", "support"),
    160: Code("a channel of memory will be retired at the next start", "reboot"),
    161: Code("a channel of memory could not be retired", "ignore"),
}

#: What is said of a code that is not in the table.
UNKNOWN: Final = Code("a code that this version does not know", "support", _CATALOG)
