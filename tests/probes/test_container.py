"""What surrounds a job: a sound container, each thing that may lack, and how it is read."""

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from probes.catalog import CONTAINER
from probes.container import observation, probe
from probes.container.faults import FAULTS
from probes.contract import MIB, Finding, Status
from probes.faults.inject import surroundings
from probes.node import containers, device_nodes, hardware, resources
from probes.node.containers import Container
from probes.node.device_nodes import Node
from probes.node.hardware import Hardware
from probes.node.resources import Group, Space
from tests.probes.verdicts import ids, tripped

NVIDIA = Hardware(vendors=("nvidia",), evidence=("/dev/nvidia0 exists",))
GIB = 1024 * MIB

SOUND = probe.Observation(
    hardware=NVIDIA,
    container=Container(kind="a container"),
    nodes=tuple(Node(path=path) for path in ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0")),
    infiniband=True,
    shared_memory=Space(folder="/dev/shm", size_bytes=8 * GIB, free_bytes=8 * GIB),  # noqa: S108
    caches=(Space(folder="/tmp", size_bytes=GIB, free_bytes=GIB),),  # noqa: S108
    limits={"NOFILE": 65536, "MEMLOCK": None, "AS": None},
    group=Group(memory_bytes=32 * GIB, cores=8.0),
    now_s=1_800_000_000.0,
    newest_file_s=1_790_000_000.0,
)


def judged(observation: probe.Observation, **limits: Any) -> dict[str, Finding]:
    """The findings by check."""
    found = list(probe.judge(observation, probe.Limits(**limits)))
    assert ids(found) == set(CONTAINER.check_ids)
    return {finding.id.partition(".")[2]: finding for finding in found}


def changed(**fields: Any) -> probe.Observation:
    """The sound container with other fields."""
    return SOUND.model_copy(update=fields)


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what an injection replaces."""
    for owner, names in (
        (hardware, ("detect",)),
        (device_nodes, ("open_nodes",)),
        (resources, ("space", "caches", "limits", "group", "locks_without_limit")),
        (containers, ("read",)),
        (observation, ("has_infiniband", "now")),
    ):
        for name in names:
            monkeypatch.setattr(owner, name, getattr(owner, name))
    for name in observation.VARIABLES:
        monkeypatch.setenv(name, "")


def test_this_machine_is_sound() -> None:
    """Nothing here keeps a job from starting."""
    observation = probe.observe("cpu")

    assert {one.status for one in judged(observation).values()} <= {"pass", "skip", "warn"}
    assert observation.cores >= 1
    assert abs(observation.now_s - time.time()) < 60


def test_a_sound_container_passes() -> None:
    """Every check, but for what is not asked."""
    found = judged(SOUND, gpus=1)

    assert {name for name, one in found.items() if one.status != "pass"} == {"driver_capabilities"}


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_trips_its_check_alone(fault: Any) -> None:
    """With a cure."""
    (injection,) = fault.inject
    surroundings.pretends(**injection.arguments)

    found = list(probe.judge(probe.observe("cpu"), probe.Limits(gpus=fault.promised_gpus)))

    assert tripped(found) == set(fault.trips)
    (bad,) = (one for one in found if one.id == fault.trips[0])
    assert bad.hint
    assert bad.action != "none"


@pytest.mark.usefixtures("restored")
def test_the_pretended_container_is_sound() -> None:
    """Without a change nothing trips, and a path that is not there is refused."""
    surroundings.pretends({})

    assert tripped(probe.judge(probe.observe("cpu"))) == set()
    with pytest.raises(KeyError):
        surroundings.edited({"limits.NO_SUCH": 1})


REFUSED = Node(path="/dev/nvidia0", problem="EPERM: Operation not permitted")
OTHERS = tuple(
    Node(path=f"/dev/nvidia{number}", problem="EPERM: Operation not permitted")
    for number in range(1, 8)
)
BROKEN = Node(path="/dev/nvidia1", problem="EIO: Input/output error")
CLOSED = Node(path="/dev/nvidiactl", problem="EPERM: Operation not permitted")
RENDER = (
    Node(path="/dev/kfd"),
    Node(path="/dev/dri/renderD128"),
    Node(path="/dev/dri/renderD129", problem="EPERM: Operation not permitted"),
)
HOST = Container()
AMD = Hardware(vendors=("amd",), evidence=("KFD node 1 is gfx942",))
MISSING = Node(path="/dev/nvidia-uvm", problem="ENOENT: No such file or directory")
SEEN = Hardware(vendors=("nvidia",), evidence=("PCI 0000:0f:00.0 is 10de:2330 of class 0302",))


@pytest.mark.parametrize(
    ("fields", "promise", "status"),
    [
        ({}, "auto", "pass"),
        ({"nodes": (REFUSED,)}, 1, "error"),
        ({"nodes": (Node(path="/dev/nvidia0"), MISSING)}, 1, "warn"),
        ({"nodes": (Node(path="/dev/nvidia0"), MISSING), "container": HOST}, 1, "pass"),
        ({"nodes": (*SOUND.nodes, *OTHERS)}, "auto", "pass"),
        ({"nodes": (*SOUND.nodes, *OTHERS)}, 1, "pass"),
        ({"nodes": (*SOUND.nodes, *OTHERS)}, 8, "error"),
        ({"nodes": (*SOUND.nodes, BROKEN)}, "auto", "error"),
        ({"nodes": (CLOSED, Node(path="/dev/nvidia0"))}, "auto", "error"),
        ({"nodes": RENDER, "hardware": AMD}, "auto", "pass"),
        ({"nodes": RENDER[1:], "hardware": AMD}, 2, "error"),
        ({"nodes": (RENDER[2],), "hardware": AMD}, "auto", "error"),
        ({"nodes": (), "hardware": SEEN}, "auto", "skip"),
        ({"nodes": (), "hardware": SEEN}, 0, "skip"),
        ({"nodes": (), "hardware": SEEN}, 8, "fail"),
        ({"nodes": (), "hardware": Hardware()}, 8, "skip"),
        (
            {
                "nodes": (),
                "hardware": Hardware(vendors=("nvidia",), evidence=("/dev/nvhost-gpu exists",)),
            },
            1,
            "skip",
        ),
        ({"nodes": (Node(path="/dev/kfd"),), "hardware": Hardware(vendors=("amd",))}, 1, "pass"),
    ],
)
def test_device_nodes(fields: dict[str, Any], promise: Any, status: Status) -> None:
    """Lost access is an error, never a failure; a promise without any node is one."""
    assert judged(changed(**fields), gpus=promise)["device_nodes"].status == status


def test_a_gpu_that_does_not_start_is_no_lost_access() -> None:
    """A new container would not help."""
    broken = judged(changed(nodes=(*SOUND.nodes, BROKEN)))["device_nodes"]

    assert (broken.action, "/dev/nvidia1" in broken.message) == ("investigate", True)
    assert judged(changed(nodes=(REFUSED,)))["device_nodes"].action == "recreate_container"


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (None, "skip"),
        ("all", "pass"),
        ("compute,utility", "pass"),
        ("utility, compute, video", "pass"),
        ("utility", "warn"),
        ("compute", "warn"),
    ],
)
def test_driver_capabilities(value: str | None, status: Status) -> None:
    """What the toolkit is asked for."""
    variables = {} if value is None else {"NVIDIA_DRIVER_CAPABILITIES": value}

    assert judged(changed(variables=variables))["driver_capabilities"].status == status
    bare = judged(changed(variables=variables, container=HOST))["driver_capabilities"]
    assert bare.status == "skip"


@pytest.mark.parametrize(
    ("field", "value", "check", "status"),
    [
        ("NOFILE", 1024, "open_files", "pass"),
        ("NOFILE", 1023, "open_files", "warn"),
        ("NOFILE", None, "open_files", "pass"),
        ("AS", 64 * GIB, "address_space", "pass"),
        ("AS", 64 * GIB - 1, "address_space", "warn"),
        ("MEMLOCK", 1 << 40, "locked_memory", "warn"),
    ],
)
def test_limits_of_the_process(field: str, value: int | None, check: str, status: Status) -> None:
    """At the threshold, below it, and without a limit."""
    limits = {**SOUND.limits, field: value}

    assert judged(changed(limits=limits))[check].status == status


def test_locked_memory_matters_with_rdma_alone() -> None:
    """Most hosts limit it, and nothing else asks for it."""
    limited = changed(limits={"MEMLOCK": 65536}, infiniband=False)

    assert judged(limited)["locked_memory"].status == "skip"
    assert judged(limited)["open_files"].status == "skip"  # it could not be read
    allowed = changed(limits={"MEMLOCK": 65536}, locks_without_limit=True)
    assert judged(allowed)["locked_memory"].status == "pass"


@pytest.mark.parametrize(
    ("capabilities", "mapped", "allowed"),
    [
        ("000001ffffffffff", "0 0 4294967295", True),
        ("0000000000004000", "0 0 4294967295", True),
        ("00000000a80425fb", "0 0 4294967295", False),
        ("000001ffffffffff", "0 100000 65536", False),
        ("", "", False),
    ],
)
def test_the_capability_to_lock_memory(
    tmp_path: Path, capabilities: str, mapped: str, *, allowed: bool
) -> None:
    """As pods get it that use RDMA; root of a user namespace has none that counts."""
    folder = tmp_path / "proc/self"
    folder.mkdir(parents=True)
    if capabilities:
        (folder / "status").write_text(f"Name:\tpython\nCapEff:\t{capabilities}\nSeccomp:\t0\n")
        (folder / "uid_map").write_text(f"{mapped}\n")

    assert resources.locks_without_limit(tmp_path) is allowed


def test_a_folder_of_the_rdma_driver_is_no_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any host that loads the driver has the folder."""
    monkeypatch.setattr(observation, "_INFINIBAND", tmp_path)
    (tmp_path / "rdma_cm").touch()
    before = observation.has_infiniband()
    (tmp_path / "uverbs0").touch()

    assert (before, observation.has_infiniband()) == (False, True)


@pytest.mark.parametrize(
    ("size", "free", "status"),
    [
        (64 * MIB, 64 * MIB, "pass"),  # what a container gets that does not ask
        (64 * MIB - 1, 64 * MIB - 1, "warn"),
        (64 * MIB, 16 * MIB - 1, "warn"),
        (None, None, "pass"),
    ],
)
def test_shared_memory(size: int | None, free: int | None, status: Status) -> None:
    """By size and by what is free."""
    place = Space(folder="/dev/shm", size_bytes=size, free_bytes=free)  # noqa: S108

    assert judged(changed(shared_memory=place))["shared_memory"].status == status


def test_one_cache_that_may_be_written_is_enough() -> None:
    """A read-only home is usual in a container."""
    closed = Space(folder="/root/.cache", problem="it is read-only")

    assert judged(changed(caches=(*SOUND.caches, closed)))["caches"].status == "pass"
    assert judged(changed(caches=(closed,)))["caches"].status == "warn"


@pytest.mark.parametrize(
    ("now_s", "newest_s", "status"),
    [
        (1_800_000_000.0, 1_800_043_200.0, "pass"),  # files from another zone
        (1_800_000_000.0, 1_800_100_000.0, "warn"),
        (1_800_000_000.0, 0.0, "pass"),  # an image whose files have no time
        (1_800_000_000.0, 315532800.0, "pass"),  # or the first one that zip knows
        (0.0, 0.0, "warn"),
        (86400.0, 315532800.0, "warn"),
        (4_102_444_800.0, 0.0, "warn"),
        (1_800_000_000.0 + 1e9, 1_800_000_000.0, "warn"),
    ],
)
def test_the_clock(now_s: float, newest_s: float, status: Status) -> None:
    """Against the files of the installation, where these have a time."""
    observation = changed(now_s=now_s, newest_file_s=newest_s)

    assert judged(observation)["clock"].status == status


def test_only_a_promise_fails() -> None:
    """Whatever else is wrong: nothing here drains a node."""
    place = Space(folder="/dev/shm", problem="gone")  # noqa: S108
    worst = changed(
        nodes=(REFUSED, MISSING),
        shared_memory=place,
        caches=(place,),
        limits={"NOFILE": 1, "MEMLOCK": 1, "AS": 1},
        group=Group(memory_bytes=1, cores=0.1),
        now_s=0.0,
        variables={"NVIDIA_DRIVER_CAPABILITIES": "video"},
    )

    assert {one.status for one in judged(worst, gpus=8).values()} == {"warn", "error"}


# ---- how it is read

V2 = {
    "proc/self/cgroup": "0::/pod/job\n",
    "sys/fs/cgroup/pod/memory.max": "8589934592\n",
    "sys/fs/cgroup/pod/memory.current": "1000\n",
    "sys/fs/cgroup/pod/job/memory.max": "max\n",
    "sys/fs/cgroup/pod/job/cpu.max": "150000 100000\n",
}
V1 = {
    "proc/self/cgroup": "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n2:cpuset:/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "8589934592\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000\n",
    "sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_quota_us": "150000\n",
    "sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000\n",
}
FREE = {
    "proc/self/cgroup": "0::/\n",
    "sys/fs/cgroup/cpu.max": "max 100000\n",
}
#: Lines that no kernel writes, and a group outside of what the container sees.
ODD = {
    "proc/self/cgroup": "nonsense\n1:cpu\n\n0::/../../other\n",
    "sys/fs/cgroup/cpu.max": "50000 100000\n",
    "sys/fs/cgroup/memory.max": "\xb2\n",
}


@pytest.mark.parametrize(
    ("files", "group"),
    [
        (V2, Group(memory_bytes=8 * GIB, memory_used_bytes=1000, cores=1.5)),
        (V1, Group(memory_bytes=8 * GIB, memory_used_bytes=1000, cores=1.5)),
        (FREE, Group()),
        ({}, Group()),
        (ODD, Group(cores=0.5)),
    ],
    ids=["version 2", "version 1", "no limit", "no control groups", "odd"],
)
def test_control_groups_are_read(tmp_path: Path, files: dict[str, str], group: Group) -> None:
    """The tightest of this group and those above it."""
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    assert resources.group(tmp_path) == group


def test_folders_are_read(tmp_path: Path) -> None:
    """One that is not there yet is judged by the one above it."""
    made, later = resources.space(str(tmp_path)), resources.space(str(tmp_path / "a" / "b"))

    assert made.problem == later.problem == ""
    assert made.size_bytes == later.size_bytes
    assert resources.space("/proc").free_bytes is None
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    expected = "" if os.access(closed, os.W_OK) else "this user may not write there"
    assert resources.space(str(closed)).problem == expected


def test_a_folder_that_nobody_makes_must_be_there(tmp_path: Path) -> None:
    """The folder above it does not stand in for shared memory."""
    gone = resources.space(str(tmp_path / "shm"), made=True)

    assert gone.problem == "it does not exist"
    assert judged(changed(shared_memory=gone))["shared_memory"].status == "warn"
    assert resources.space(str(tmp_path), made=True) == resources.space(str(tmp_path))


@pytest.mark.parametrize("failing", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENAMETOOLONG])
def test_a_folder_that_may_not_be_seen_is_judged_by_the_one_above(
    tmp_path: Path, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /root/.cache is for a user who got root's HOME, or a home that the network lost."""
    real = os.stat

    def stat(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(str(tmp_path / "closed")):
            raise OSError(failing, "no")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", stat)

    assert resources.space(str(tmp_path / "closed" / ".cache")).size_bytes
    assert containers.read({}, tmp_path / "closed") == HOST


def test_caches_follow_the_variables() -> None:
    """Each folder once."""
    found = resources.caches({"HOME": "/h", "TMPDIR": "/t", "XDG_CACHE_HOME": "/t"})

    assert [place.folder for place in found] == ["/t", "/h/.nv"]


def test_limits_are_read_by_name() -> None:
    """As numbers, or None."""
    assert set(resources.limits()) <= set(resources.LIMITS)
    assert "NOFILE" in resources.limits()
