"""What `make test-versions` installs: each dependency at its bound, and the newest of all."""

import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def versions() -> ModuleType:
    """The program, as a module."""
    spec = importlib.util.spec_from_file_location("versions", ROOT / "tools" / "versions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def modules_of_tests() -> list[Path]:
    """The modules that the sets may run."""
    folder = ROOT / "tests" / "validator"
    return [*folder.rglob("test_*.py"), *folder.rglob("conftest.py")]


def installed_with(names: list[str]) -> set[str]:
    """The distributions that pip installs with these, as they are here."""
    waiting, found = list(map(canonicalize_name, names)), set[str]()
    while waiting:
        name = waiting.pop()
        found.add(name)
        needed = [Requirement(text) for text in importlib.metadata.requires(name) or ()]
        needed = [each for each in needed if each.marker is None or each.marker.evaluate()]
        waiting += [new for each in needed if (new := canonicalize_name(each.name)) not in found]
    return found


def test_the_lowest_set_is_every_dependency_at_its_bound(versions: ModuleType) -> None:
    """Exactly that version, of all that the package always needs, and never of torch."""
    needed = {one.name: one for one in versions.requirements()}
    lowest = {Requirement(text).name: Requirement(text) for text in versions.sets()["lowest"]}

    assert len(needed) > 8
    assert not {"torch", "numpy"} & needed.keys()
    assert lowest.keys() == needed.keys()
    for name, one in lowest.items():
        (exact,) = one.specifier
        assert exact.operator == "=="
        assert needed[name].specifier.contains(exact.version)


def test_a_dependency_without_a_lower_bound_is_refused(versions: ModuleType) -> None:
    """Nobody could say from which version on we work."""
    assert versions.lowest(Requirement("rich>=13.7,<20")) == "rich==13.7"
    for text in ("rich", "rich<20", "rich==13.7"):
        with pytest.raises(SystemExit, match="no lower bound"):
            versions.lowest(Requirement(text))


def test_the_third_set_has_the_typer_that_named_options_otherwise(versions: ModuleType) -> None:
    """All else is the newest there too."""
    third, newest = versions.sets()["typer-0.27"], versions.sets()["newest"]

    assert [text for text in third if text.startswith("typer")] == ["typer==0.27.*"]
    assert {text for text in third if not text.startswith("typer")} < set(newest)


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("import torch\n", True),
        ("from torch.nn import functional\n", True),
        ("from tests.validator.engine.test_run import surveyed\n", True),
        ("from probes.kit import tensors\n", True),
        ("from probes.contract import Frozen\nimport validator.report\n", False),
        ("import torchvision\n", False),
        ("def test_it():\n    import torch\n", False),
        ("TEMPLATE = '''\nimport torch\n'''\n", False),
    ],
)
def test_a_module_that_imports_torch_is_left_out(
    versions: ModuleType,
    tmp_path: Path,
    text: str,
    needs: bool,  # noqa: FBT001
) -> None:
    """It would end the collection, and so would one that imports it through another of ours."""
    file = tmp_path / "test_it.py"
    file.write_text(text)

    assert ("torch" in versions.needed_packages(file)) == needs


def test_nothing_is_left_out_that_runs_without_torch(versions: ModuleType) -> None:
    """What is left out is marked as needing torch, or is the fuzzer; the rest is most of it."""
    left_out = {str(file.relative_to(versions.TESTS)) for file in versions.left_out()}
    all_of_them = {str(file.relative_to(versions.TESTS)) for file in modules_of_tests()}

    assert {"service/test_api_schema.py", "engine/test_tenants.py"} <= left_out
    assert left_out < all_of_them
    assert len(left_out) < len(all_of_them) / 4


def test_what_is_not_left_out_finds_all_that_it_imports(versions: ModuleType) -> None:
    """One package that a set does not install would end its collection, and all its tests."""
    tools = [Requirement(text).name for text in versions.TEST_TOOLS]
    installed = installed_with([*(each.name for each in versions.requirements()), *tools])
    distributions = importlib.metadata.packages_distributions()
    collected = {*modules_of_tests(), *(ROOT / "tests").glob("conftest.py")} - {
        *versions.left_out()
    }
    needed = set().union(*(versions.needed_packages(file) for file in collected))

    assert {"torch", "schemathesis"} & needed == set()
    assert {"hypothesis", "yaml", "starlette"} <= needed  # of a tool, of ours, of one of ours
    assert [
        package
        for package in sorted(needed - sys.stdlib_module_names)
        if installed.isdisjoint(map(canonicalize_name, distributions.get(package, [])))
    ] == []
