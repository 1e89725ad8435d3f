"""NVRTC: where it is looked for, which one is taken, and what it compiles."""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.kit.nvrtc import Compiler, Unavailable, architecture, candidates, find
from tests import nvrtc_wheel

KERNEL = 'extern "C" __global__ void one(unsigned long long *p) { p[blockIdx.x] = 1; }'


@pytest.fixture
def compiler() -> Compiler:
    """The NVRTC of the wheel; skips without it."""
    return nvrtc_wheel.compiler()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages as the wheels of several releases leave it."""
    for name in (
        "nvidia/cu13/lib/libnvrtc.so.13",
        "nvidia/cu13/lib/libnvrtc-builtins.so.13.0",
        "nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
        "nvidia/cuda_nvrtc/lib/libnvrtc.alt.so.12",
        "torch/lib/libnvrtc-672ee683.so.11.2",
        "torch/lib/libnvrtc-builtins.so.11.8",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path


def listed(site: Path, maps: str = "") -> Iterator[str]:
    """The candidates, relative to the folder."""
    file = site / "maps"
    file.write_text(maps, encoding="utf-8")
    return (path.removeprefix(f"{site}/") for path in candidates(site, file))


def test_where_it_is_looked_for(site: Path) -> None:
    """The wheels beside torch, torch's own folder, then the loader's path; no builtins."""
    assert list(listed(site)) == [
        "nvidia/cu13/lib/libnvrtc.so.13",
        "nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
        "torch/lib/libnvrtc-672ee683.so.11.2",
        *("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so"),
    ]


def test_the_one_that_the_process_has_comes_first(site: Path) -> None:
    """A second copy beside it is a trouble of its own."""
    line = "7f0-7f1 r-xp 0 08:01 1 "
    maps = f"{line}/x/libnvrtc-builtins.so.12.4\n{line}/x/libnvrtc.so.12\n{line}/x/libnvrtc.so.12\n"

    assert next(listed(site, maps)) == "/x/libnvrtc.so.12"
    assert list(listed(site, maps)).count("/x/libnvrtc.so.12") == 1


def test_without_maps_and_without_packages(tmp_path: Path) -> None:
    """Only the loader's names are left, and that none fits is told with its reason."""
    names = list(candidates(tmp_path, tmp_path / "none"))
    assert names[0] == "libnvrtc.so.13"

    with pytest.raises(Unavailable, match=r"no NVRTC that fits: .*cannot open shared object"):
        find(["libnvrtc-of-nobody.so"], "13.0")
    with pytest.raises(Unavailable, match="nowhere to look"):
        find([], "13.0")


def test_a_library_that_is_none() -> None:
    """One without NVRTC's functions is passed by."""
    with pytest.raises(Unavailable, match=r"no NVRTC that fits: .*nvrtcVersion"):
        find(["libc.so.6"], "13.0")


def test_another_major_version_is_not_taken(compiler: Compiler) -> None:
    """A driver may refuse its code."""
    major, minor = compiler.version

    assert find([compiler.path], f"{major}.0").path == compiler.path
    with pytest.raises(Unavailable, match=rf"is {major}\.{minor}, torch's is 11\.8"):
        find([compiler.path], "11.8")


@pytest.mark.parametrize(
    ("capability", "known", "right"),
    [
        ((9, 0), (80, 86, 90, 100), 90),
        ((8, 9), (80, 86), 86),
        ((12, 1), (100, 103, 120), 120),
        ((10, 3), (90, 100, 103), 103),
        ((7, 5), (), 75),
        ((10, 3), (90, 100, 101, 120), 100),
        ((8, 9), (80, 86, 87), 86),
        ((8, 7), (80, 86, 87, 89), 87),
    ],
)
def test_the_architecture(capability: tuple[int, int], known: tuple[int, ...], right: int) -> None:
    """The device's own, or the nearest below in its generation."""
    assert architecture(capability, known) == right


@pytest.mark.parametrize("capability", [(7, 0), (11, 0), (13, 0), (8, 7), (10, 1)])
def test_a_generation_that_it_does_not_know(capability: tuple[int, int]) -> None:
    """Code of another generation does not run there, nor that of a board on a Tegra."""
    with pytest.raises(Unavailable, match=f"sm_{capability[0]}{capability[1]}"):
        architecture(capability, (80, 90, 100, 120))


def test_it_compiles_a_kernel(compiler: Compiler) -> None:
    """An ELF file with that kernel comes out, and the architectures are known."""
    image = compiler.cubin(KERNEL, 90)

    assert image[:4] == b"\x7fELF"
    assert b"one" in image
    assert 90 in compiler.architectures


@pytest.mark.kernels
@pytest.mark.parametrize("architecture", nvrtc_wheel.EACH)
def test_it_compiles_for_every_architecture(compiler: Compiler, architecture: int) -> None:
    """Each differs from the others."""
    image = compiler.cubin(KERNEL, architecture)

    assert image[:4] == b"\x7fELF"
    assert image != compiler.cubin(KERNEL, 75 if architecture == 120 else 120)


@pytest.mark.parametrize(
    ("source", "architecture", "text"),
    [
        ("nonsense", 90, r"does not compile kernels\.cu for sm_90: .*nonsense"),
        (KERNEL, 20, "does not compile"),
    ],
)
def test_what_does_not_compile(
    compiler: Compiler, source: str, architecture: int, text: str
) -> None:
    """The compiler's log is in the text."""
    with pytest.raises(Unavailable, match=f"(?s){text}"):
        compiler.cubin(source, architecture)


def test_a_call_that_fails_is_told(compiler: Compiler) -> None:
    """NVRTC's own text and code."""
    with pytest.raises(Unavailable, match=r"nvrtcGetCUBINSize: NVRTC_ERROR_\w+ \(\d+\)"):
        compiler._bytes(ctypes.c_void_p(), "CUBIN")
