"""Text of the environment goes into what is reported as one legible line of bounded length."""

import ast
import functools
import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probes import legible as text_of
from probes.contract import Frozen
from probes.legible import legible, variables
from probes.node import copies, resources
from probes.worker.document import to_json
from probes.worker.errors import describe
from validator import report
from validator.engine import limits_in_force

ROOT = Path(__file__).parents[2]

#: A byte that is no UTF-8, a line of a log, a colour, quotes, and far too much of it.
HOSTILE = 'a\udcff\nready=true status=pass \x1b[31m"\\\x85\u202e' + "x" * 100_000


def plain(value: Any) -> None:
    """Whatever text is in a value is encodable, of one line, and not long."""
    if isinstance(value, str):
        assert value.isprintable()
        assert len(value) < 20_000
        value.encode()
    elif isinstance(value, dict):
        plain([*value.keys(), *value.values()])
    elif isinstance(value, (list, tuple)):
        for one in value:
            plain(one)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0,1", "0,1"),
        ("a\udcffb", "a\\xffb"),
        ("a\nb\tc\x1b[0m", "a\\nb\\tc\\x1b[0m"),
        ("\ud800", "\\ud800"),
        ("\u202egpj", "\\u202egpj"),
        ("größer", "größer"),
        ("x" * 30, "x" * 20 + "... (10 more characters)"),
    ],
)
def test_legible(text: str, shown: str) -> None:
    """Escaped where it cannot be printed, cut where it is long."""
    assert legible(text, 20) == shown


def test_variables_are_those_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one too; the line end of a block in YAML is no part of a value."""
    monkeypatch.setenv("A_1", "0,1\n")
    monkeypatch.setenv("A_2", "")

    assert variables(("A_1", "A_2", "A_3")) == {"A_1": "0,1", "A_2": ""}


def of_precision() -> Any:
    """What every probe of products reports."""
    from probes.kit import precision

    return precision.read("cpu").model_dump(mode="json")


def of_cuda_available() -> Any:
    """Variables, and what is loaded before all else."""
    from probes.cuda_available import observation

    return [observation._variables(), observation._preloaded(), observation._mps_pipes()]


def of_container() -> Any:
    """Folders and variables."""
    from probes.container import observation

    return observation.observe("cpu").model_dump(mode="json")


def of_torch_settings() -> Any:
    """Variables."""
    from probes.torch_settings import probe

    return probe.observe("cpu").model_dump(mode="json")


def of_torch_version() -> Any:
    """Variables, and a search path that no folder could have."""
    from probes.torch_version import mapped, observation

    return [
        variables(observation.VARIABLES),
        mapped.libraries(None, os.environ["LD_LIBRARY_PATH"])[1],
    ]


def of_toolchain() -> Any:
    """Switches, and compilers that are none."""
    from probes.compiled import toolchain

    compilers = (os.environ["CXX"], " ", "c++ '")
    return [
        toolchain._switched_off(),
        [toolchain._why_no_library(name, "C++", Path("/nowhere")) for name in compilers],
    ]


def of_capabilities() -> Any:
    """The processor that the CPU is to pass for."""
    from probes.kit import capabilities

    return capabilities.documented_absence(RuntimeError(capabilities._WITHOUT_AVX512), "cpu")


#: Reader of the environment -> what it makes of it.
READERS: dict[str, Callable[[], Any]] = {
    "probes/cuda_available/observation.py": of_cuda_available,
    "probes/kit/precision.py": of_precision,
    "probes/kit/capabilities.py": of_capabilities,
    "probes/container/observation.py": of_container,
    "probes/torch_settings/probe.py": of_torch_settings,
    "probes/torch_version/look.py": of_torch_version,
    "probes/compiled/toolchain.py": of_toolchain,
    "probes/node/resources.py": lambda: [
        one.model_dump(mode="json") for one in resources.caches(os.environ)
    ],
    "probes/node/copies.py": lambda: [str(one.path) for one in copies.found_on([HOSTILE])],
    "probes/legible.py": lambda: variables(("NODE_NAME",)),
    "validator/report.py": lambda: [report.host_name(), report.revision()],
    "validator/engine/limits_in_force.py": limits_in_force.space,
}

OBSERVERS = (
    *("cuda_available.observation", "container.observation"),
    *("torch_settings.probe", "kit.precision"),
    *("torch_version.look", "torch_version.mapped", "compiled.toolchain", "kit.capabilities"),
)

#: Files that read variables and report none of them: why.
SILENT = {
    "probes/node/mig.py": "chooses by it, and gives it to those above",
    "probes/node/survey.py": "counts devices by it",
    "probes/compiled/workspace.py": "sets and restores",
    "validator/engine/spawn.py": "hands it on",
    "validator/cli/main.py": "our own arguments, and the level of the log",
    "validator/cli/early.py": "whether torch is needed",
    "validator/cli/serve.py": "our own arguments",
    "validator/service/apiserver.py": "whom to ask; complaints have it in quotes",
    "validator/service/fresh.py": "which GPUs who asks sees",
    "validator/settings/loading.py": "settings: tests/validator/settings/test_settings_hostile.py",
}


@functools.cache
def named() -> frozenset[str]:
    """Every variable that any reader may name."""
    found = {
        node.value
        for file in (*(ROOT / "probes").rglob("*.py"), *(ROOT / "validator").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node.value.isupper() and node.value.replace("_", "").isalnum()
    }
    return frozenset(found - {"PATH", "PYTHONPATH", "PWD"} | {"CXX", "HOME", "TMPDIR"})


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold it once torch is there, which itself refuses some such values."""
    for name in ("torch", *(f"probes.{probe}" for probe in OBSERVERS)):
        importlib.import_module(name)
    for name in named():
        monkeypatch.setenv(name, HOSTILE)


@pytest.mark.torch
@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("reader", READERS)
def test_each_reader_of_the_environment_is_legible(reader: str) -> None:
    """It raises nothing, and what it gives is one line a text."""
    found = READERS[reader]()

    plain(found)
    json.dumps(found, ensure_ascii=False).encode()


def test_every_reader_is_known() -> None:
    """A new one has to be made legible here, or to be silent."""
    found = {
        str(file.relative_to(ROOT))
        for top in ("probes", "validator")
        for file in (ROOT / top).rglob("*.py")
        if "/inject/" not in str(file)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"})
        or (isinstance(node, ast.ImportFrom) and node.module == "probes.legible")
    }

    assert found == READERS.keys() | SILENT.keys() | {"probes/worker/document.py"}


class Told(Frozen):
    """Stands for an observation."""

    text: str
    texts: tuple[dict[str, str], ...] = ()
    number: float = 0.0


def test_a_document_holds_what_no_unicode_does() -> None:
    """A path of bytes in an observation costs no result; the rest is as it was."""
    told = Told(text="/x/\udcff\nä", texts=({"a": "\udcfe"},), number=float("nan"))

    assert json.loads(to_json(told)) == {
        "text": "/x/\\xff\\nä",
        "texts": [{"a": "\\xfe"}],
        "number": "NaN",
    }
    assert to_json(Told(text="ä\n")) == '{"text":"ä\\n"}'


def test_an_exception_holds_what_no_unicode_does() -> None:
    """The name of a file in it, for one."""
    told = describe(FileNotFoundError(2, "No such file", "/x/\udcff"))
    assert "/x/\\" in told["message"]
    assert all(text.encode() for text in told.values())
    assert text_of.legible("") == ""
    assert describe(ValueError("\udcff"))["message"] == "\\udcff"


def test_names_that_no_folder_has_are_passed_over(tmp_path: Path) -> None:
    """On sys.path, and below a folder that may not be entered."""
    assert copies.found_on([HOSTILE[1:], "x" * 300, str(tmp_path)]) == ()
