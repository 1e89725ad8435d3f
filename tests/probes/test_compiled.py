"""The probe `compiled`: references are right, wrong compilers are seen, skips have reasons."""

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch

from probes.catalog import COMPILED
from probes.compiled import probe, scatters, toolchain, workspace
from probes.contract import Comparison
from probes.faults.inject import compiling
from probes.kit import families
from probes.kit.trial import Custom
from tests.probes.corrupt import tripped_families
from tests.probes.verdicts import PLANTED, ids, tripped_alone
from validator import profiles
from validator.engine.plan import make_plan
from validator.selftest.choice import Options, choose
from validator.service.schedule import Schedule, timings
from validator.settings.model import Settings

pytestmark = pytest.mark.slow

RIGHT: Final = (Comparison(operation="right", elements=1),)
SOUND: Final = probe.Observation(device="cpu", families=dict.fromkeys(COMPILED.checks, RIGHT))


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile gives the function itself, and a compiler is there: tests take no time."""
    monkeypatch.setattr(torch, "compile", lambda function, **_options: function)
    monkeypatch.setattr(probe, "why_not", lambda _device, _folder: "")


def replace(monkeypatch: pytest.MonkeyPatch, make: Callable[[Any], Any]) -> None:
    """Make something else of a function in place of compiling it."""
    monkeypatch.setattr(torch, "compile", lambda function, **_options: make(function))


# ---- verdicts


def test_every_check_is_made() -> None:
    """In the order of the specification."""
    assert ids(probe.judge(SOUND)) == set(COMPILED.check_ids)
    assert [each.id for each in probe.judge(SOUND)] == list(COMPILED.check_ids)


@pytest.mark.parametrize("check", COMPILED.checks)
def test_a_fault_trips_its_check_alone(check: str) -> None:
    """One wrong element in a family trips its check only, and the operation is named."""
    observation = SOUND.model_copy(update={"families": {**SOUND.families, check: PLANTED}})
    failed = tripped_alone(probe.judge(observation), f"compiled.{check}")
    assert "aot_eager" in failed.hint


def test_without_a_compiler_all_is_skipped() -> None:
    """The reason is in each finding, and so in the summary of the result."""
    findings = list(probe.judge(probe._nothing("cpu", "there is no g++")))

    assert {each.status for each in findings} == {"skip"}
    assert {each.message for each in findings} == {"nothing is compiled here: there is no g++"}


# ---- wrong compilers


@pytest.mark.usefixtures("uncompiled")
def test_the_functions_themselves_are_right() -> None:
    """Not compiled they give every reference, so that a difference is the compiler's."""
    others = set(probe.FAMILIES) - {"dynamic_shapes"}

    assert tripped_families(probe, *others) == set()


#: Name in `COMPILERS` -> families that must trip, and families that must not.
COMPILERS: Final = {
    "results_scaled": ({"forward", "half_types", "cache"}, set()),
    "one_element_off": ({"forward", "views_and_scatters"}, set()),
    "results_not_written": ({"forward", "cache"}, set()),
    "gradients_scaled": ({"gradients", "views_and_scatters", "random"}, {"forward", "cache"}),
    "gradients_zero": ({"gradients", "views_and_scatters"}, {"forward", "in_place"}),
    "writes_lost": ({"in_place"}, {"forward", "gradients"}),
    "size_kept": ({"dynamic_shapes"}, set()),
    "answers_kept": ({"recompiles", "graph_breaks", "random"}, {"forward", "gradients"}),
    "half_types_lost": ({"half_types"}, {"forward"}),
    "draws_repeated": ({"random"}, {"forward", "gradients", "in_place"}),
    "cache_by_code": ({"cache"}, {"forward", "gradients"}),
}


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("name", compiling.COMPILERS)
def test_a_wrong_compiler(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trips the checks of what it gets wrong, and spares those of what it does not touch."""
    replace(monkeypatch, compiling.COMPILERS[name])
    trips, spares = COMPILERS[name]

    assert tripped_families(probe, *trips, *spares) == trips


def transposed_gradients(function: Any) -> Any:
    """Square leaves get their gradient transposed."""

    def call(*given: Any, **named: Any) -> Any:
        for each in (x for part in given if isinstance(part, list) for x in part):
            if (
                torch.is_grad_enabled()
                and each.requires_grad
                and each.dim() == 2
                and each.shape[0] == each.shape[1]
            ):
                each.register_hook(lambda grad: grad.t())
        return function(*given, **named)

    return call


@pytest.mark.usefixtures("uncompiled")
def test_a_gradient_in_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its numbers is there, at the place of another."""
    replace(monkeypatch, transposed_gradients)

    assert tripped_families(probe, "views_and_scatters") == {"views_and_scatters"}


@pytest.mark.parametrize("text", ["backend='inductor' raised: CppCompileError", "no such lowering"])
@pytest.mark.usefixtures("uncompiled")
def test_a_compiler_that_raises_fails(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the tools work by themselves, an error of torch's is its own."""

    def raising(_function: Any) -> Any:
        def call(*_: Any, **__: Any) -> Any:
            raise RuntimeError(text)

        return call

    replace(monkeypatch, raising)

    assert tripped_families(probe, "forward", "cache") == {"forward", "cache"}


def test_the_gradients_of_views_are_those_of_numpy() -> None:
    """By hand for one: twice each place of the diagonal beside the main one."""
    _, view = scatters._VIEWS["diagonal"]

    assert (scatters._gradient_of(view) == 2 * np.eye(5, k=1)).all()


# ---- compiled for real, once


def test_this_image_is_sound() -> None:
    """One family with gradients and one without, through the whole compiler."""
    found = tripped_families(probe, "gradients", "cache")
    with workspace.workspace() as folder:
        why = toolchain.why_not("cpu", folder)
    if why:
        pytest.skip(why)

    assert found == set()


# ---- where nothing is compiled


def why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **environment: str) -> str:
    """Why nothing can be compiled for the CPU in that environment."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return toolchain.why_not("cpu", tmp_path)


def script(folder: Path, text: str) -> str:
    """A program that stands for a compiler."""
    file = folder / "compiler"
    file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    file.chmod(0o755)
    return str(file)


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Named by its file."""
    assert "there is no nothing++" in why(monkeypatch, tmp_path, CXX="nothing++ -O2")


def test_a_compiler_without_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its first error is the reason, and nothing of it is left."""
    program = script(tmp_path, 'echo "x.cpp:2: fatal error: cmath: No such file" >&2; exit 1')
    told = why(monkeypatch, tmp_path, CXX=program)

    assert "does not work: x.cpp:2: fatal error: cmath" in told
    assert [file.name for file in tmp_path.iterdir()] == ["compiler"]


def test_a_compiler_that_makes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As where what is made cannot be run: the library cannot be loaded."""
    assert "cannot be loaded" in why(monkeypatch, tmp_path, CXX=script(tmp_path, "exit 0"))


def test_a_compiler_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is ended."""
    monkeypatch.setattr(toolchain, "_COMPILE_S", 0.2)

    assert "took longer" in why(monkeypatch, tmp_path, CXX=script(tmp_path, "exec sleep 600"))


def test_no_headers_of_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in an image with the interpreter alone."""
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path))

    assert "no Python.h" in why(monkeypatch, tmp_path, CXX=sys.executable)


def test_an_unsupported_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Torch's own words are the reason."""

    def refuse() -> None:
        raise RuntimeError("Python 3.99+ not yet supported for torch.compile")

    monkeypatch.setattr(torch._dynamo.eval_frame, "check_if_dynamo_supported", refuse)

    assert "3.99" in why(monkeypatch, tmp_path)


@pytest.mark.parametrize("name", toolchain._SWITCHES[:2])
def test_a_compiler_that_is_switched_off(name: str, tmp_path: Path) -> None:
    """Functions run as they are, and are right: that is no pass, and no failure."""
    program = (
        "from pathlib import Path; import torch._dynamo; "
        "from probes.compiled.toolchain import why_not; "
        f"print(why_not('cpu', Path('{tmp_path}')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), name: "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )

    assert done.stdout == f"torch.compile is switched off by {name}=1\n"


def test_errors_are_not_suppressed() -> None:
    """Else a compiler that raises would be one that is right."""
    config: Any = torch._dynamo.config
    with config.patch(suppress_errors=True):
        with workspace.workspace():
            assert not config.suppress_errors

        assert config.suppress_errors


@pytest.mark.usefixtures("uncompiled")
def test_functions_that_are_left_as_they_are_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any code that was generated nothing is told of a compiler; what is wrong is."""
    names = ("forward", "gradients", "graph_breaks")
    monkeypatch.setattr(probe, "FAMILIES", {name: probe.FAMILIES[name] for name in names})
    observation = probe.observe("cpu")
    statuses = [each.status for each in probe.judge(observation)]
    wrong = {**observation.families, "forward": (Comparison(operation="x", problem="wrong"),)}
    judged = probe.judge(observation.model_copy(update={"families": wrong}))

    assert statuses == ["skip", "skip", "pass"]
    assert next(judged).status == "fail"


def test_other_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A GPU needs Triton; of an unknown back-end nothing is expected."""
    monkeypatch.setattr(toolchain, "find_spec", lambda _name: None)

    assert "Triton" in toolchain.why_not("cuda:0", tmp_path)
    assert "not known" in toolchain.why_not("mps:0", tmp_path)


def test_a_file_system_that_runs_nothing(tmp_path: Path) -> None:
    """`noexec`, as `--tmpfs /tmp` gives it: skipped with the reason."""
    program = (
        "from pathlib import Path; import torch._dynamo; "
        "from probes.compiled.toolchain import why_not; "
        f"print(why_not('cpu', Path('{tmp_path}')))"
    )
    mount = f"mount -t tmpfs -o noexec tmpfs {tmp_path}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{mount} && exec {sys.executable} -c "{program}"'],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if "permitted" in done.stderr or "there is no" in done.stdout:
        pytest.skip("no mount of its own, or no compiler")

    assert "cannot be loaded" in done.stdout, done.stdout + done.stderr


def test_no_folder_for_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skipped too."""

    def missing(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", missing)

    assert "No usable temporary directory" in probe.observe("cpu").skip


# ---- what is left, and what is restored


@pytest.mark.usefixtures("uncompiled")
def test_nothing_is_left_and_all_is_restored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The folder, the environment, the threads that compile, the random state."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TRITON_CACHE_DIR", "/theirs")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    seen: list[Any] = []

    def body(_device: str) -> Any:
        seen.append((os.environ["TORCHINDUCTOR_CACHE_DIR"], config.compile_threads))
        torch.manual_seed(99)
        yield RIGHT[0]

    config: Any = __import__("torch._inductor.config", fromlist=["x"])
    monkeypatch.setattr(probe, "FAMILIES", {"cache": lambda _device: [Custom("x", body)]})
    before = (dict(os.environ), config.compile_threads, torch.get_rng_state().tolist())
    probe.observe("cpu")

    assert seen == [(seen[0][0], 1)]
    assert seen[0][0].startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert (dict(os.environ), config.compile_threads, torch.get_rng_state().tolist()) == before


# ---- the profile


def test_deep_holds_it_and_no_other_profile_does() -> None:
    """Nor is it run by a daemon of the default profile."""
    plans = {
        name: {spec.name for spec in make_plan(Settings(run={"profile": name}), "cli").specs}
        for name in ("quick", "standard", "deep")
    }

    assert [COMPILED.name in plans[name] for name in plans] == [False, False, True]
    assert plans["deep"] > plans["standard"]
    assert "deep" not in profiles.empty_profiles()
    assert Settings().run.profile == "quick"


def test_a_daemon_does_not_run_it_at_its_start() -> None:
    """It waits for the time of this node, as what loads a device does."""
    assert COMPILED.is_heavy
    schedule = Schedule(timings(Settings(), [COMPILED]), monotonic=lambda: 0.0)

    assert schedule.due() == () or schedule.due_at()[COMPILED.name] is not None
    assert schedule.timings[COMPILED.name].phase is not None


def test_the_selftest_injects_its_faults_when_asked() -> None:
    """By name or by probe: without a fault it would take as long as all others together."""
    of_probe = {fault.name for fault in choose(Options(probes=(COMPILED.name,)))}
    by_name = choose(Options(faults=("compiled.writes_lost",)))

    assert of_probe == {f"compiled.{name}" for name in compiling.COMPILERS}
    assert [fault.name for fault in by_name] == ["compiled.writes_lost"]
    assert not of_probe & {fault.name for fault in choose(Options())}


def test_an_old_recording_can_be_judged() -> None:
    """Without the fields of the probe's own observation."""
    plain = families.Observation(device="cpu", families=SOUND.families)
    observation = probe.Observation.model_validate(plain.model_dump())

    assert {each.status for each in probe.judge(observation)} == {"pass"}
