"""What boards say: a recorded sound one, each kind of damage, what is no fault, and the log."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from probes.catalog import TELEMETRY
from probes.contract import Finding, Status, worst
from probes.faults.inject import health
from probes.kit import watching
from probes.node import gpu_events, gpu_health, hardware, kernel_log, nvml_answers
from probes.node.gpu_events import Events
from probes.node.gpu_health import GpuHealth, Health
from probes.node.hardware import Hardware
from probes.node.kernel_log import KernelLog
from probes.telemetry import probe
from probes.telemetry.faults import FAULTS
from probes.telemetry.xids import CODES, MEANINGS
from tests import fakes
from tests.fakes.replay import Replay
from tests.probes.verdicts import ids, tripped

NVIDIA = Hardware(vendors=("nvidia",), evidence=("/dev/nvidia0 exists",))
ALL = set(TELEMETRY.check_ids)
UNCHANGED: dict[str, Any] = {}
NOW_S = 100_000.0


def node(*changes: dict[str, Any], log: str = "", **fields: Any) -> probe.Observation:
    """A node of sound boards, one for each of the changes."""
    gpus = tuple(
        GpuHealth.model_validate(
            {"index": index, "pci_bus_id": f"0000:{index}f:00.0", **health.SOUND, **change}
        )
        for index, change in enumerate(changes or (UNCHANGED,))
    )
    lines = KernelLog(xids=kernel_log.parse(log, NOW_S))
    return probe.Observation(
        **{"hardware": NVIDIA, "health": Health(gpus=gpus), "log": lines, **fields}
    )


def watched(
    *changes: dict[str, Any],
    before: tuple[dict[str, Any], ...] = (),
    events: Events | None = None,
    seconds: float = 60.0,
    **fields: Any,
) -> probe.Observation:
    """Such a node after heavy probes, with what it was `before`: sound, where nothing is said."""
    earlier = node(*(before or (UNCHANGED,) * max(len(changes), 1))).health
    told = events or Events(watched_s=seconds)
    return node(*changes, before=earlier, events=told, **fields)


def judged(observation: probe.Observation, **limits: Any) -> dict[str, Finding]:
    """The findings by check."""
    found = list(probe.judge(observation, probe.Limits(**limits)))
    assert ids(found) == ALL
    return {finding.id.partition(".")[2]: finding for finding in found}


def status_of(check: str, *changes: dict[str, Any], **limits: Any) -> Status:
    """The status of a check, of a node in which nothing else trips."""
    found = judged(node(*changes), **limits)
    assert tripped(found.values()) <= {f"telemetry.{check}"}
    return found[check].status


def have(monkeypatch: pytest.MonkeyPatch, library: Replay) -> None:
    """Have this library in place of NVML."""
    for module in (gpu_health, nvml_answers):
        monkeypatch.setattr(module, "pynvml", library)


def replayed(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> probe.Observation:
    """What is read of the recorded board."""
    have(monkeypatch, Replay("h200.json", **changes))
    return probe.Observation(hardware=NVIDIA, health=gpu_health.read())


# ---- sound nodes


def test_the_recorded_h200_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """No check trips; what one GPU in a virtual machine does not support is skipped."""
    observation = replayed(monkeypatch)
    found = judged(observation)
    (gpu,) = observation.health.gpus

    assert (observation.health.error, gpu.gone, gpu.name) == ("", "", "NVIDIA H200")
    assert tripped(found.values()) == set()
    skips = {check for check, finding in found.items() if finding.status == "skip"}
    assert skips == {"enough_gpus", "retired_pages", "nvlink", "new_errors", "new_xids"}
    assert (gpu.pcie_width, gpu.pcie_generation, gpu.recovery_action, gpu.banks) == (16, 5, 0, 3072)
    assert (gpu.temperature_c, gpu.slowdown_c, gpu.memory_temperature_c) == (40, 89, 38)
    assert (gpu.inforom_valid, gpu.ecc_default, gpu.sram_threshold_exceeded) == (True, True, False)
    assert gpu.power_violation_s == pytest.approx(1.390873984)
    json.dumps(observation.model_dump(mode="json"))


def test_two_sound_boards_are_sound() -> None:
    """With links, a fabric and a power cap at full load."""
    found = judged(watched(UNCHANGED, UNCHANGED), gpus=2)

    assert {finding.status for finding in found.values()} == {"pass"}


NO_FAULT = {
    "a power cap": {"clock_reasons": 0x4},
    "idle": {"clock_reasons": 0x1, "performance_state": 8, "utilization_percent": 0},
    "clocks set by an application": {"clock_reasons": 0x2 | 0x100 | 0x10},
    "an idle link at its lowest speed": {"pcie_generation": 1, "utilization_percent": 0},
    "an idle link that is narrow": {"pcie_width": 4, "performance_state": 8},
    "corrected errors": {"volatile_corrected": 1000},
    "rows that were remapped": {"rows_remapped": 3, "aggregate_uncorrected": 2},
    "a few retired pages": {"pages_retired": 3},
    "errors of the SRAM long ago": {"sram_aggregate_uncorrected": 4},
    "a lower power limit": {"power_limit_w": 500.0},
    "replays of PCIe": {"pcie_replays": 12},
    "ECC off where that is the default": {
        "ecc_enabled": False,
        "ecc_pending": False,
        "ecc_default": False,
    },
    "no fabric": {"fabric_state": 0},
    "no limit of the temperature": {"slowdown_c": 0, "memory_max_c": None},
    "no bridge": {"nvlinks_active": 0, "nvlinks_inactive": 4},
}


@pytest.mark.parametrize("change", NO_FAULT.values(), ids=NO_FAULT)
def test_what_is_no_fault_trips_nothing(change: dict[str, Any]) -> None:
    """A sound board may say it."""
    assert tripped(judged(node(change, change)).values()) == set()


def told(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> GpuHealth:
    """The recorded board, with other answers of NVML's."""
    (gpu,) = replayed(monkeypatch, **changes).health.gpus
    return gpu


NONE_32, NONE_64 = 2**32 - 1, 2**64 - 1
NO_NUMBERS: dict[str, tuple[dict[str, Any], str]] = {
    "errors": ({"nvmlDeviceGetTotalEccErrors(1,0)": NONE_64}, "volatile_uncorrected"),
    "rows": ({"nvmlDeviceGetRemappedRows": [NONE_32] * 4}, "remap_failed"),
    "a histogram": (
        {
            "nvmlDeviceGetRowRemapperHistogram": dict.fromkeys(
                ("max", "high", "partial", "low", "none"), NONE_32
            )
        },
        "banks_without_spare_rows",
    ),
    "the SRAM": (
        {
            "nvmlDeviceGetSramEccErrorStatus/c_nvmlEccSramErrorStatus_v1_t": {
                "volatileUncParity": NONE_64,
                "bThresholdExceeded": NONE_32,
            }
        },
        "sram_threshold_exceeded",
    ),
    "a field": (
        {"NVML_FI_DEV_GET_GPU_RECOVERY_ACTION": {"ret": 0, "type": 1, "ui": NONE_32, "ull": 0}},
        "recovery_action",
    ),
    "a temperature": ({"temp": NONE_32}, "temperature_c"),
    "a temperature below zero, without its sign": ({"temp": 2**32 - 5}, "temperature_c"),
    "the memory's temperature": (
        {"NVML_FI_DEV_MEMORY_TEMP": {"ret": 0, "type": 1, "ui": 4096, "ull": 4096}},
        "memory_temperature_c",
    ),
    "the widest link": ({"nvmlDeviceGetMaxPcieLinkWidth": 255}, "pcie_max_width"),
    "the fabric's health": (
        {
            "nvmlDeviceGetGpuFabricInfoV/c_nvmlGpuFabricInfo_v2_t": {
                "state": 3,
                "status": 0,
                "healthMask": NONE_32,
            }
        },
        "fabric_health",
    ),
    "the mode of ECC": ({"nvmlDeviceGetEccMode": [NONE_32, NONE_32]}, "ecc_enabled"),
}


@pytest.mark.parametrize(("changes", "field"), NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_a_number_that_stands_for_none_is_none(
    changes: dict[str, Any], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NVML has no other word for it in a structure; a sound board is not drained for that."""
    assert getattr(told(monkeypatch), field) is not None
    found = replayed(monkeypatch, **changes)

    assert getattr(found.health.gpus[0], field) is None
    assert tripped(judged(found).values()) == set()


CODES_OF_NVML = sorted(
    {code for name, code in vars(pynvml).items() if name.startswith("NVML_ERROR_")}
)


def test_no_error_code_of_any_question_is_a_false_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for those that say that the GPU is gone, which one question is enough for."""
    asked: set[str] = set()

    def refused(name: str, code: int) -> set[str]:
        board = Replay("h200.json")
        plain = board._function

        def function(each: str) -> Any:
            asked.add(each)

            def refuse(*_: Any) -> None:
                raise pynvml.NVMLError(code)

            return refuse if each == name else plain(each)

        monkeypatch.setattr(board, "_function", function)
        have(monkeypatch, board)
        seen = probe.Observation(hardware=NVIDIA, health=gpu_health.read())
        return tripped(judged(seen).values())

    assert refused("", 0) == set()
    assert len(asked) > 25
    for name in sorted(asked):
        for code in CODES_OF_NVML:
            wanted = {"telemetry.answers"} if code in {15, 16} else set()
            if (name, code) == ("nvmlDeviceValidateInforom", 14):
                wanted = {"telemetry.inforom"}
            assert refused(name, code) == wanted, (name, code)


def test_a_change_of_clocks_is_no_slowdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML may say so for a moment; what lasts, or has a cause, is told at once."""
    name = "nvmlDeviceGetCurrentClocksEventReasons"

    def reasons(*answers: int) -> int | None:
        left = list(answers)
        return told(monkeypatch, **{name: lambda: left.pop(0)}).clock_reasons

    assert reasons(0x8, 0x0) == 0
    assert reasons(0x9, 0x8) == 0x8
    assert reasons(0x88) == 0x88
    assert reasons(0x48) == 0x48


@pytest.mark.parametrize(
    "changes",
    [
        {"nvmlSystemGetDriverVersion": "error NVMLError_Unknown: no"},
        {"nvmlShutdown": "error NVMLError_GpuIsLost: lost"},
        {"nvmlShutdown": "error NVMLError_Unknown: no"},
    ],
    ids=["no version", "no end", "another end"],
)
def test_what_is_not_about_a_gpu_costs_no_answer(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What NVML has told of the GPUs is kept."""
    seen = replayed(monkeypatch, **changes)

    assert (seen.health.error, len(seen.health.gpus)) == ("", 1)
    assert tripped(judged(seen).values()) == set()


def test_a_count_that_makes_no_sense_is_not_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four thousand million questions would be a hang."""
    seen = replayed(monkeypatch, nvmlDeviceGetCount=NONE_32)

    assert judged(seen)["answers"].status == "error"
    assert judged(replayed(monkeypatch, nvmlDeviceGetCount=16))["answers"].status == "pass"


def test_the_gpu_that_is_asked_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a call that never returns names it."""
    have(monkeypatch, Replay("h200.json", nvmlDeviceGetCount=2))
    places: list[str] = []
    gpu_health.read(places.append)

    assert places == ["NVML, GPU 0", "NVML, GPU 1"]


def test_links_after_one_without_an_answer_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be asked is not active, and hides no other."""
    links: dict[str, Any] = {f"nvlink_state({link})": 1 for link in range(18)}
    links["nvlink_state(0)"] = "error NVMLError_Unknown: no"

    assert told(monkeypatch, **links).nvlinks_active == 17


HEALTHY_NODES: dict[str, tuple[dict[str, Any], ...]] = {
    "two of four boards are bridged": (
        *({"name": "NVIDIA RTX A6000", "nvlinks_active": 4, "fabric_state": None},) * 2,
        *({"name": "NVIDIA RTX A6000", "nvlinks_active": 0, "fabric_state": None},) * 2,
    ),
    "one of three H100 has no bridge": (
        *({"name": "NVIDIA H100 PCIe", "nvlinks_active": 12, "fabric_state": None},) * 2,
        {"name": "NVIDIA H100 PCIe", "nvlinks_active": 0, "fabric_state": None},
    ),
    "one board of two is divided": ({}, {"mig_enabled": True, "nvlinks_active": 0}),
    "a superchip": ({"name": "NVIDIA GH200 480GB", "c2c_enabled": True, "pcie_width": 1},),
    "a GeForce": (
        {
            **dict.fromkeys(health.SOUND, None),
            "name": "NVIDIA GeForce RTX 4090",
            "temperature_c": 60,
            "slowdown_c": 90,
            "clock_reasons": 4,
            "performance_state": 8,
            "pcie_width": 16,
            "pcie_max_width": 16,
            "pcie_generation": 1,
            "pcie_max_generation": 4,
        },
    ),
    "a T4 at its power cap": (
        {
            **health.SOUND,
            "name": "Tesla T4",
            "clock_reasons": 4,
            "nvlinks_active": None,
            "fabric_state": None,
            "recovery_action": None,
            "memory_temperature_c": 0,
            "memory_max_c": 0,
        },
    ),
}


@pytest.mark.parametrize("changes", HEALTHY_NODES.values(), ids=HEALTHY_NODES)
def test_healthy_nodes_of_other_kinds(changes: tuple[dict[str, Any], ...]) -> None:
    """Nothing trips."""
    assert tripped(judged(node(*changes)).values()) == set()


def test_a_soldered_board_without_links_is_told() -> None:
    """Beside siblings that have them; so is a bridge with one link less than its sibling's."""
    sxm = {"name": "NVIDIA A100-SXM4-80GB", "fabric_state": None}
    pair = {"name": "NVIDIA H100 NVL", "fabric_state": None}

    assert status_of("nvlink", {**sxm, "nvlinks_active": 12}, {**sxm, "nvlinks_active": 0}) == (
        "warn"
    )
    assert status_of("nvlink", {**pair, "nvlinks_active": 12}, {**pair, "nvlinks_active": 9}) == (
        "warn"
    )
    assert status_of("nvlink", {**pair, "nvlinks_active": 0}, nvlinks=12) == "warn"


def test_lanes_that_are_promised_count() -> None:
    """A node that has eight by design says so."""
    assert status_of("pcie", {"pcie_width": 8}, pcie_lanes=8) == "pass"
    assert status_of("pcie", {"pcie_width": 4}, pcie_lanes=8) == "warn"
    assert status_of("pcie", {"pcie_width": 8, "pcie_max_width": 8}, pcie_lanes=16) == "warn"


@pytest.mark.parametrize(
    ("mask", "status"), [(0x12A, "pass"), (0x16A, "warn"), (0x22A, "warn"), (0, "pass")]
)
def test_each_part_of_the_fabric_s_health_counts(mask: int, status: Status) -> None:
    """Every question answered with no; recovery from timeouts; a wrong configuration; no answer."""
    assert status_of("fabric", {"fabric_health": mask}) == status


def test_what_is_not_told_is_skipped() -> None:
    """A board that tells nothing has no fault, and no pass."""
    silent = node(dict.fromkeys(health.SOUND, None))

    assert {name for name, one in judged(silent).items() if one.status != "skip"} == {
        "answers",
        "xids",
    }


@pytest.mark.parametrize("field", sorted(health.SOUND))
def test_each_answer_may_be_missing(field: str) -> None:
    """Whatever one board does not support, nothing trips and nothing raises."""
    assert tripped(judged(node({field: None}, UNCHANGED)).values()) <= (
        {"telemetry.nvlink"} if field == "nvlinks_active" else set()
    )


@pytest.mark.parametrize(
    ("present", "why"),
    [
        (Hardware(), "no GPU is here"),
        (Hardware(vendors=("amd",)), "the GPUs here are of amd"),
        (Hardware(vendors=("intel",)), "the GPUs here are of intel"),
    ],
)
def test_without_a_gpu_of_nvidia_everything_is_skipped(present: Hardware, why: str) -> None:
    """With the reason."""
    found = judged(probe.Observation(hardware=present, health=Health()))

    assert {finding.status for finding in found.values()} == {"skip"}
    assert why in found["ecc_mode"].message


def test_a_promise_where_no_gpu_ever_was_drains_nothing() -> None:
    """It is broken all the same; of NVML, which was not asked, nothing is said."""
    empty = judged(probe.Observation(hardware=Hardware(), health=Health()), gpus=1)["enough_gpus"]
    fewer = judged(node(UNCHANGED), gpus=2)["enough_gpus"]

    assert (empty.status, empty.action) == ("fail", "investigate")
    assert "NVML" not in empty.message
    assert "expect.gpus: 0" in empty.hint
    assert (fewer.status, fewer.action) == ("fail", "drain")


def test_a_gpu_of_another_job_is_not_judged() -> None:
    """It may not be asked, so that nothing is told of it."""
    other = {**dict.fromkeys(health.SOUND, None), "accessible": False, "error": "No Permission"}

    assert tripped(judged(node(UNCHANGED, other), gpus=1).values()) == set()
    assert judged(node(other))["answers"].status == "skip"
    assert judged(node(UNCHANGED, other), gpus=2)["enough_gpus"].status == "fail"


# ---- NVML itself


@pytest.mark.parametrize(
    ("present", "limits", "status", "action"),
    [
        (NVIDIA, {}, "error", "recreate_container"),
        (NVIDIA.model_copy(update={"evidence": ("PCI 0000:0f:00.0",)}), {}, "skip", "none"),
        (
            NVIDIA.model_copy(update={"evidence": ("PCI 0000:0f:00.0",)}),
            {"gpus": 1},
            "error",
            "recreate_container",
        ),
        (
            NVIDIA.model_copy(update={"evidence": ("/dev/nvidia0", "/dev/nvhost-gpu exists")}),
            {"gpus": 1},
            "skip",
            "none",
        ),
    ],
    ids=["given", "seen on the bus only", "promised", "a Jetson"],
)
def test_nvml_that_does_not_start_tells_nothing(
    present: Hardware, limits: dict[str, Any], status: Status, action: str
) -> None:
    """An error where GPUs are given to this process, never a failure; a skip elsewhere."""
    failed = Health(error="Failed to initialize NVML: Unknown Error")
    found = judged(probe.Observation(hardware=present, health=failed), **limits)

    assert (found["answers"].status, found["answers"].action) == (status, action)
    assert worst(finding.status for finding in found.values()) == status


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [0, 1])
def test_the_real_module_reads_the_library_s_layouts(
    tmp_path: Path, damaged: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through pynvml and a library in C: every structure is read at the right place."""
    libraries = fakes.build(tmp_path)
    answer: Any = fakes.ask(
        "gpu_health.read().model_dump_json()", libraries, FAKE_NVML_DAMAGED=damaged
    )
    (gpu,) = Health.model_validate(answer).gpus
    old: Any = fakes.ask(
        "gpu_health.read().model_dump_json()",
        libraries,
        FAKE_NVML_DAMAGED=damaged,
        FAKE_NVML_OLD=1,
    )

    assert (gpu.pci_bus_id, gpu.memory_temperature_c, gpu.banks) == (
        "0000:0a:00.0",
        55,
        100 + 7 * damaged,
    )
    assert (gpu.fabric_state, gpu.nvlinks_active, gpu.temperature_c) == (3, 4 - damaged, None)
    assert (gpu.volatile_corrected, gpu.volatile_uncorrected, gpu.aggregate_uncorrected) == (
        (1, 11, 12) if damaged else (0, 0, 0)
    )
    assert (gpu.sram_aggregate_uncorrected, gpu.sram_volatile_uncorrected) == (
        (1 + 2, 8 + 16) if damaged else (0, 0)
    )
    found = judged(probe.Observation(hardware=NVIDIA, health=Health(gpus=(gpu,))))
    assert tripped(found.values()) == (
        {
            f"telemetry.{check}"
            for check in (
                *("ecc_mode", "memory_errors", "sram_errors", "remapped_rows", "inforom"),
                *("recovery_action", "clocks", "fabric"),
            )
        }
        if damaged
        else set()
    )
    assert gpu.thermal_violation_s == 2.5 * damaged
    (older,) = Health.model_validate(old).gpus
    assert (older.clock_reasons, older.fabric_state) == (gpu.clock_reasons, None)


@pytest.mark.slow
@pytest.mark.parametrize(("code", "gone"), [(15, True), (16, True), (4, False), (999, False)])
def test_a_gpu_without_a_handle(tmp_path: Path, code: int, *, gone: bool) -> None:
    """Lost, or in need of a reset: a failure. Not permitted: nobody's matter. Else a warning."""
    libraries = fakes.build(tmp_path)
    answer: Any = fakes.ask(
        "gpu_health.read().model_dump_json()",
        libraries,
        FAKE_NVML_COUNT=2,
        FAKE_NVML_LOST=1,
        FAKE_NVML_LOST_CODE=code,
    )
    told = Health.model_validate(answer)
    found = judged(probe.Observation(hardware=NVIDIA, health=told))["answers"]

    assert bool(told.gpus[1].gone) is gone
    assert told.gpus[1].accessible is (code != 4)
    assert found.status == ("fail" if gone else "pass" if code == 4 else "warn")


# ---- damage


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_trips_its_check_alone(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the second of two boards, which the message names."""
    for owner, name in (
        *((hardware, "detect"), (gpu_health, "read"), (kernel_log, "read")),
        *((gpu_events, "watch"), (watching, "is_wanted")),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    (injection,) = fault.inject
    health.pretends(**injection.arguments)

    found = list(probe.judge(probe.observe("cpu"), probe.Limits(gpus=fault.promised_gpus)))

    assert tripped(found) == set(fault.trips)
    (bad,) = (one for one in found if one.id == fault.trips[0])
    assert bad.action != "none"
    assert bad.hint
    if "health" not in fault.name and not injection.arguments.get("error"):
        assert "1f:00" in bad.message or fault.promised_gpus


RECORDED_DAMAGE = {
    "one uncorrected error": (
        {"nvmlDeviceGetTotalEccErrors(1,0)": 1},
        "memory_errors",
    ),
    "a parity error of the SRAM": (
        {
            "nvmlDeviceGetSramEccErrorStatus/c_nvmlEccSramErrorStatus_v1_t": {
                "volatileUncParity": 1,
                "bThresholdExceeded": 0,
            }
        },
        "memory_errors",
    ),
    "rows pending": ({"nvmlDeviceGetRemappedRows": [0, 1, 1, 0]}, "remapped_rows"),
    "rows failed": ({"nvmlDeviceGetRemappedRows": [0, 1, 0, 1]}, "remapped_rows"),
    "a bank without spares": (
        {
            "nvmlDeviceGetRowRemapperHistogram": {
                "max": 3071,
                "high": 0,
                "partial": 0,
                "low": 0,
                "none": 1,
            }
        },
        "remapped_rows",
    ),
    "retired pages pending": ({"nvmlDeviceGetRetiredPagesPendingStatus": 1}, "retired_pages"),
    "a reset is asked for": (
        {"NVML_FI_DEV_GET_GPU_RECOVERY_ACTION": {"ret": 0, "type": 1, "ui": 1, "ull": 1}},
        "recovery_action",
    ),
    "the power brake": ({"nvmlDeviceGetCurrentClocksEventReasons": 0x88}, "clocks"),
    "heat": ({"temp": 90}, "temperature"),
    "hot memory": (
        {"NVML_FI_DEV_MEMORY_TEMP": {"ret": 0, "type": 1, "ui": 95, "ull": 95}},
        "temperature",
    ),
    "eight lanes": ({"nvmlDeviceGetCurrPcieLinkWidth": 8}, "pcie"),
    "a corrupted InfoROM": (
        {"nvmlDeviceValidateInforom": "error NVMLError_CorruptedInforom: corrupted"},
        "inforom",
    ),
    "ECC off": ({"nvmlDeviceGetEccMode": [0, 0]}, "ecc_mode"),
    "a fabric in progress": (
        {"nvmlDeviceGetGpuFabricInfoV/c_nvmlGpuFabricInfo_v2_t": {"state": 2, "status": 0}},
        "fabric",
    ),
    "lost in the middle": (
        {"nvmlDeviceGetPerformanceState": "error NVMLError_GpuIsLost: lost"},
        "answers",
    ),
}


@pytest.mark.parametrize(("changes", "check"), RECORDED_DAMAGE.values(), ids=RECORDED_DAMAGE)
def test_damage_of_the_recorded_board_is_told(
    changes: dict[str, Any], check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One other answer of NVML's: the check that names it trips, and no other."""
    found = judged(replayed(monkeypatch, **changes))

    assert tripped(found.values()) == {f"telemetry.{check}"}


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("clocks", {"clock_reasons": 0x40}),
        ("pcie", {"pcie_width": 8}),
        ("temperature", {"temperature_c": 95}),
        ("inforom", {"inforom_valid": False}),
    ],
)
def test_a_board_that_is_slow_is_a_warning_unless_the_site_says_otherwise(
    check: str, change: dict[str, Any]
) -> None:
    """It computes right."""
    assert status_of(check, change) == "warn"
    assert status_of(check, change, degraded="fail") == "fail"


@pytest.mark.parametrize(
    ("check", "change", "limits"),
    [
        ("memory_errors", {"volatile_uncorrected": 2}, {"volatile_uncorrected": 2}),
        ("sram_errors", {"sram_aggregate_uncorrected": 9}, {"sram_aggregate_uncorrected": 9}),
        ("retired_pages", {"pages_retired": 63}, {"retired_pages": 63}),
        ("nvlink", {"nvlinks_active": 17}, {"nvlinks": 17}),
    ],
)
def test_a_limit_that_is_set_counts(
    check: str, change: dict[str, Any], limits: dict[str, Any]
) -> None:
    """Right at it passes; without it, beside a sound sibling, it does not."""
    assert status_of(check, change, **limits) == "pass"
    assert status_of(check, change, UNCHANGED) in {"warn", "fail"}


def test_recoveries_of_links_count_where_a_limit_is_set() -> None:
    """No number of them is known to be sound."""
    assert status_of("nvlink", {"nvlink_recoveries": 8}) == "pass"
    assert status_of("nvlink", {"nvlink_recoveries": 8}, nvlink_recoveries=7) == "warn"


def test_many_bad_boards_make_one_finding() -> None:
    """The worst decides, four are named, all are listed."""
    bad = judged(node(*[{"remap_pending": True}] * 5, {"remap_failed": True}))["remapped_rows"]

    assert (bad.status, bad.action) == ("fail", "drain")
    assert "; and 2 more" in bad.message
    assert isinstance(bad.observed, list)
    assert len(bad.observed) == 6


# ---- while heavy probes run

RISES: dict[str, tuple[dict[str, Any], Status, str]] = {
    "uncorrected errors": ({"volatile_uncorrected": 1}, "fail", "reset_gpu"),
    "errors of the SRAM": ({"sram_volatile_uncorrected": 2}, "fail", "reset_gpu"),
    "a row that failed": ({"remap_failed": True}, "fail", "drain"),
    "a row that waits": ({"remap_pending": True}, "warn", "reset_gpu"),
    "a row": ({"rows_remapped": 1}, "warn", "reset_gpu"),
    "a page": ({"pages_retired": 1}, "warn", "reset_gpu"),
    "a fatal error of PCIe": ({"pcie_fatal_errors": 1}, "warn", "investigate"),
    "recoveries of links": ({"nvlink_recoveries": 1}, "warn", "investigate"),
    "replays": ({"pcie_replays": 9}, "warn", "investigate"),
    "heat": ({"thermal_violation_s": 1.5}, "warn", "investigate"),
    "a GPU that is lost": ({"gone": "nvmlDeviceGetUUID: GPU is lost"}, "fail", "drain"),
    "a few replays": ({"pcie_replays": 8}, "pass", "none"),
    "a moment of heat": ({"thermal_violation_s": 0.5}, "pass", "none"),
    "a power cap": ({"power_violation_s": 30.0}, "pass", "none"),
    "corrected errors": ({"volatile_corrected": 100}, "pass", "none"),
    "no answer any more": ({"pcie_replays": None, "volatile_uncorrected": None}, "pass", "none"),
}


@pytest.mark.parametrize(("change", "status", "action"), RISES.values(), ids=RISES)
def test_what_rises_while_heavy_probes_run(
    change: dict[str, Any], status: Status, action: str
) -> None:
    """By how much, and of which GPU; a total that was there before is none of it."""
    found = judged(watched(UNCHANGED, change))["new_errors"]

    assert (found.status, found.action) == (status, action)
    assert status == "pass" or "GPU 1 (0000:1f:00.0)" in found.message
    same = judged(watched(UNCHANGED, change, before=(UNCHANGED, change)))["new_errors"]
    assert same.status == "pass"


def test_counters_that_fall_have_not_risen() -> None:
    """A reset in between sets them to zero."""
    before = {"volatile_uncorrected": 5, "pcie_replays": 500, "remap_pending": True}

    assert judged(watched(UNCHANGED, before=(before,)))["new_errors"].status == "pass"


def test_a_gpu_that_is_no_longer_listed_is_told() -> None:
    """Whatever the others say; one of another job may come and go."""
    gone = judged(watched(UNCHANGED, before=(UNCHANGED, UNCHANGED)))["new_errors"]
    other = {"accessible": False, "error": "No Permission"}

    assert (gone.status, gone.action) == ("fail", "drain")
    assert judged(watched(UNCHANGED, before=(UNCHANGED, other)))["new_errors"].status == "pass"


def test_the_rate_of_replays_counts_in_a_long_run() -> None:
    """And what the site accepts."""
    change = {"pcie_replays": 60}

    assert judged(watched(change, seconds=600))["new_errors"].status == "pass"
    assert judged(watched(change, seconds=300))["new_errors"].status == "warn"
    assert judged(watched(change), pcie_replays_a_minute=60)["new_errors"].status == "pass"
    assert judged(watched(change), degraded="fail")["new_errors"].status == "fail"


@pytest.mark.parametrize(
    ("code", "address", "change", "status"),
    [
        (79, "0000:0f:00", {"recovery_action": None}, "fail"),
        (119, "0000:0f:00", {"recovery_action": 1}, "fail"),
        (119, "0000:0f:00", {"recovery_action": 0}, "warn"),
        (119, "", {"recovery_action": None}, "warn"),
        (13, "0000:0f:00", {"recovery_action": None}, "pass"),
        (4711, "0000:0f:00", {"recovery_action": None}, "warn"),
    ],
)
def test_events_are_judged_as_lines_are(
    code: int, address: str, change: dict[str, Any], status: Status
) -> None:
    """By the same table."""
    xids = (kernel_log.Xid(code=code, address=address, age_s=0.0),)
    seen = watched(change, events=Events(watched_s=9.0, xids=xids))

    assert judged(seen)["new_xids"].status == status


def test_events_that_nvml_does_not_have_are_skipped() -> None:
    """As in many virtual machines; and without heavy probes nothing is watched."""
    silent = Events(error="NVML tells no events: Not Supported", watched_s=9.0)

    assert judged(watched(events=silent))["new_xids"].status == "skip"
    assert judged(node())["new_xids"].status == judged(node())["new_errors"].status == "skip"
    failed = Health(error="Failed to initialize NVML: Driver Not Loaded")
    late = node(before=failed, events=Events(watched_s=1.0))
    assert judged(late)["new_errors"].status == "skip"


class FakeEvents:
    """NVML with a set of events: what it is asked, and each answer in its turn."""

    def __init__(self, answers: list[Any], refuses: tuple[int, ...] = ()) -> None:
        """Create it; the GPUs with these indices have no events."""
        self.calls: list[str] = []
        self._answers = answers
        self._refuses = refuses

    def __getattr__(self, name: str) -> Any:
        """A function that notes that it was called; anything else is pynvml's own."""
        own = {
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceRegisterEvents": self._register,
            "nvmlEventSetCreate": lambda: "set",
            "nvmlEventSetWait_v2": self._wait,
            "nvmlEventSetFree": lambda _: None,
            "nvmlDeviceGetPciInfo": lambda gpu: SimpleNamespace(busId=f"00000000:{gpu}F:00.0"),
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
        }
        if name not in own:
            return getattr(pynvml, name)
        self.calls.append(name)
        return own[name]

    def _register(self, gpu: int, kinds: int, events: str) -> None:
        assert (kinds, events) == (8, "set")
        if gpu in self._refuses:
            raise pynvml.NVMLError(3)

    def _wait(self, _: str, milliseconds: int) -> Any:
        assert 0 < milliseconds <= 1000
        answer = self._answers.pop(0)
        if isinstance(answer, int):
            raise pynvml.NVMLError(answer)
        return SimpleNamespace(eventType=8, eventData=answer[0], device=answer[1])

    def goes_on(self) -> bool:
        """As long as there are answers."""
        return bool(self._answers)


@pytest.mark.parametrize(
    ("answers", "refuses", "xids", "error"),
    [
        (
            [10, (79, 1), 10, (79, 1), (31, 0)],
            (),
            [(79, "0000:1f:00", 2), (31, "0000:0f:00", 1)],
            "",
        ),
        ([10, 10], (0,), [], ""),
        ([(48, 0), 15], (), [(48, "0000:0f:00", 1)], "GPU is lost"),
        ([], (), [], ""),
    ],
    ids=["events", "a GPU without", "lost", "over before it began"],
)
def test_events_are_collected_until_the_others_end(
    answers: list[Any],
    refuses: tuple[int, ...],
    xids: list[tuple[int, str, int]],
    error: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each code of each GPU once, and what was opened is closed."""
    fake = FakeEvents(answers, refuses)
    monkeypatch.setattr(gpu_events, "pynvml", fake)

    seen = gpu_events.watch(fake.goes_on)

    assert [(xid.code, xid.address, xid.count) for xid in seen.xids] == xids
    assert error in seen.error
    assert bool(seen.error) is bool(error)
    assert fake.calls[-2:] == ["nvmlEventSetFree", "nvmlShutdown"]


def test_without_events_it_waits_for_the_end_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counters are looked at when the others have ended, whatever NVML supports."""
    fake, left = FakeEvents([1], (0, 1)), [True, True, False]
    monkeypatch.setattr(gpu_events, "pynvml", fake)
    monkeypatch.setattr(gpu_events, "_LOOK_S", 0.001)

    seen = gpu_events.watch(lambda: left.pop(0))

    assert left == []
    assert "Not Supported" in seen.error
    monkeypatch.setattr(gpu_events, "pynvml", None)
    assert "not installed" in gpu_events.watch(lambda: False).error


@pytest.mark.slow
def test_the_real_module_reads_the_library_s_events(tmp_path: Path) -> None:
    """Through pynvml and a library in C: code and GPU of an event."""
    libraries = fakes.build(tmp_path)
    answer: Any = fakes.ask(
        "gpu_events.watch(iter([True, False, False]).__next__).model_dump_json()",
        libraries,
        FAKE_NVML_COUNT=2,
        FAKE_NVML_EVENT=79,
    )
    seen = Events.model_validate(answer)

    assert [(xid.code, xid.address, xid.count) for xid in seen.xids] == [(79, "0000:0b:00", 1)]
    assert seen.error == ""


# ---- the kernel's log


def line(code: int, text: str = "", at: float = NOW_S - 10, address: str = "0000:0f:00") -> str:
    """A line of the log."""
    return f"<3>[{at:12.6f}] NVRM: Xid (PCI:{address}): {code}, pid='<unknown>', {text}\n"


def of_log(text: str, change: dict[str, Any] = UNCHANGED, **limits: Any) -> Finding:
    """The finding about a log."""
    return judged(node({"recovery_action": None, **change}, log=text), **limits)["xids"]


@pytest.mark.parametrize("code", [48, 62, 64, 95, 119, 120, 140])
def test_a_recent_line_that_asks_for_a_reset_fails(code: int) -> None:
    """The action is NVIDIA's."""
    found = of_log(line(code))

    assert (found.status, found.action) == ("fail", "reset_gpu")
    assert f"Xid {code} of 0000:0f:00" in found.message


def test_a_gpu_off_the_bus_asks_for_a_reboot() -> None:
    """The worst of several lines decides."""
    found = of_log(line(74) + line(79) + line(48))

    assert (found.status, found.action) == ("fail", "reboot_node")


@pytest.mark.parametrize("code", [13, 31, 43, 45, 63, 94, 154])
def test_the_application_s_own_errors_pass(code: int) -> None:
    """What its restart repairs, and what a counter tells for longer."""
    assert of_log(line(code)).status == "pass"


LESS = {
    "a code that nobody knows": (line(4711), UNCHANGED),
    "a GPU that is not seen": (line(79, address="0000:aa:00"), UNCHANGED),
    "no time": ("NVRM: Xid (PCI:0000:0f:00): 79, off the bus\n", UNCHANGED),
    "no recovery is asked for": (line(109), {"recovery_action": 0}),
}


@pytest.mark.parametrize(("text", "change"), LESS.values(), ids=LESS)
def test_what_is_in_doubt_is_a_warning(text: str, change: dict[str, Any]) -> None:
    """A wrong failure drains a node."""
    assert of_log(text, change).status == "warn"


def test_old_lines_do_not_count() -> None:
    """A node that was repaired since is not drained for its log."""
    old = line(79, at=NOW_S - 7200)

    assert of_log(old).status == "pass"
    assert of_log(old, xid_recent_s=8000).status == "fail"


def test_a_line_before_a_recovery_does_not_count() -> None:
    """Of the same GPU, and after it."""
    done = line(154, "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)")
    asked = line(154, "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)")

    assert of_log(line(119) + done).status == "pass"
    assert of_log(line(119) + asked).status == "fail"
    assert of_log(done + line(119)).status == "fail"
    assert of_log(line(119) + done.replace("0f:00", "1f:00")).status == "fail"


def test_a_line_before_the_driver_s_start_does_not_count() -> None:
    """It was of another driver, and what the new one finds it says."""
    starts = f"<6>[{NOW_S - 5:12.6f}] NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64 580\n"

    assert of_log(line(119) + starts).status == "pass"
    assert of_log(starts + line(119)).status == "fail"
    assert of_log(line(119) + starts.replace("<6>", "<14>")).status == "fail"


@pytest.mark.parametrize(
    "text",
    [
        "<12>[ 99990.5] NVRM: Xid (PCI:0000:0f:00): 79, forged by a program\n",
        "<6>[ 99990.5] audit: type=1400 msg='NVRM: Xid (PCI:0000:0f:00): 79, quoted'\n",
        "<3>[ 99990.5] NVRM: Xid (PCI:0000:0f:00): " + "9" * 5000 + "\n",
        "<3>[ 99990.5] NVRM: Xid (PCI:0000:0f:00): , no code\n",
        "<3>[ 99990.5] NVRM: Xid (PCI:): 79\n",
    ],
    ids=["of a program", "quoted", "a long code", "no code", "no address"],
)
def test_lines_that_the_driver_did_not_write_do_not_count(text: str) -> None:
    """Whoever may write into the log drains no node by that, and ends no probe."""
    assert kernel_log.parse(text, NOW_S) == ()


def test_who_wrote_a_line_may_stand_before_it() -> None:
    """With the kernel's option for it."""
    (xid,) = kernel_log.parse("<3>[   10.5][ T1234] NVRM: Xid (PCI:0000:0f:00): 79, x", 20.0)

    assert (xid.code, xid.age_s) == (79, 9.5)


def test_a_storm_of_lines_is_one_line() -> None:
    """The newest of each code and GPU is kept, in their order, within a moment."""
    many = "".join(line(31, f"pid={number}", NOW_S - 9) for number in range(30_000))
    began_s = time.monotonic()
    xids = kernel_log.parse(many + line(119) + line(31, "pid=last"), NOW_S)

    assert [(xid.code, xid.count) for xid in xids] == [(119, 1), (31, 30_001)]
    assert xids[1].text.endswith("pid=last")
    assert of_log(many + line(119)).status == "fail"
    assert of_log(many).observed == "30000 lines"
    different = "".join(line(119, address=f"0000:{number:02x}:00") for number in range(5000))
    assert len(kernel_log.parse(different, NOW_S)) == 256
    assert time.monotonic() - began_s < 10


def test_a_log_that_may_not_be_read_is_skipped() -> None:
    """As in most containers."""
    found = judged(node(UNCHANGED, log="").model_copy(update={"log": KernelLog(error="EPERM: no")}))

    assert found["xids"].status == "skip"


@pytest.mark.parametrize(
    ("text", "xid"),
    [
        (
            "[ 1234.500000] NVRM: Xid (PCI:0000:C1:00): 63, pid=1896, Row Remapper: New row marked",
            (63, "0000:c1:00", "pid=1896, Row Remapper: New row marked"),
        ),
        ("<4>[    0.1] NVRM: Xid (0000:0f:00): 31, Ch 00000001", (31, "0000:0f:00", "Ch 00000001")),
        ("Dec 1 host kernel: NVRM: Xid (PCI:0001:00:00.0): 79", (79, "0001:00:00", "")),
        ("<6>[ 7.0] NVRM: loading NVIDIA UNIX Open Kernel Module", None),
        ("<6>[ 7.0] nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 12028, Non-fatal", None),
    ],
)
def test_lines_are_read_as_drivers_write_them(text: str, xid: tuple[int, str, str] | None) -> None:
    """Of several releases; lines of others are not taken for one."""
    found = kernel_log.parse(text, 2000.0)

    assert [(one.code, one.address, one.text) for one in found] == ([xid] if xid else [])


def test_this_machine_s_log_is_read_or_refused() -> None:
    """It never raises."""
    log = kernel_log.read()

    assert not (log.error and log.xids)


def test_every_code_has_a_meaning_and_a_source() -> None:
    """The table is data."""
    for code, entry in CODES.items():
        assert entry.bucket in MEANINGS, code
        assert entry.source.startswith("https://"), code
    assert {CODES[code].bucket for code in (13, 31, 43, 45)} <= {"restart_app", "ignore"}


@pytest.mark.parametrize("code", [39, 40, 41, 70, 76, 85, 96, 105, 126, 135, 139])
def test_every_engine_of_a_kind_is_the_application_s(code: int) -> None:
    """The tenth copy engine as the first one."""
    assert of_log(line(code)).status == "pass"


# ---- measurements


def test_sums_and_maxima_are_measured() -> None:
    """Of what is told."""
    changes = ({"volatile_corrected": 2, "temperature_c": 50}, {"volatile_corrected": 3})
    found = {one.name: one.value for one in probe.measure(node(*changes))}

    assert found["gpu_corrected_memory_errors"] == 5
    assert found["gpu_temperature_celsius"] == 50
    assert list(probe.measure(node(dict.fromkeys(health.SOUND, None)))) == []
