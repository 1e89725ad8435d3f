"""Real runs under an environment of any text: each form holds, and no line is forged."""

import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.validator.cli.fakes import command

pytestmark = [pytest.mark.slow, pytest.mark.torch]

_FORGED = "\nready=true status=pass\n# HELP forged x\nforged 1\n"

#: A byte that is no UTF-8, whole lines of what others read, a colour, quotes.
HOSTILE = f'a\udcff{_FORGED}\x1b[31m"\\]]>&<'

_NAMES = (
    *("NODE_NAME", "HOSTNAME", "VALIDATOR_IMAGE_REVISION", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"),
    *("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_TF32_OVERRIDE", "HOME"),
    *("ONEDNN_DEFAULT_FPMATH_MODE", "LD_LIBRARY_PATH", "CUDA_CACHE_PATH", "XDG_CACHE_HOME"),
    *("TORCH_COMPILE_DISABLE", "HSA_OVERRIDE_GFX_VERSION", "CUDA_MPS_PIPE_DIRECTORY", "TZ", "LANG"),
)

#: A name of a host, and a folder, that are longer than any.
LONG = "x" * 60_000


def of_json(text: str) -> None:
    """One line, and the host's name on it."""
    assert text.count("\n") == 1
    assert json.loads(text)["host"].isprintable()


def of_junit(text: str) -> None:
    """XML that is well-formed."""
    ET.fromstring(text)  # noqa: S314 - our own


def of_prom(text: str) -> None:
    """An exposition without a family that is not ours."""
    assert all(
        family.name.startswith("gpu_validator") for family in text_string_to_metric_families(text)
    )


FORMS: dict[str, Callable[[str], None]] = {
    "json": of_json,
    "junit": of_junit,
    "prom": of_prom,
    "text": lambda _: None,
}


@pytest.mark.parametrize("value", [HOSTILE, LONG], ids=["hostile", "long"])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_holds(form: str, value: str) -> None:
    """No probe fails for it, no text is raw, and no line of it stands alone."""
    probes = ("torch_version", "torch_settings", "container", "cuda_available")
    ended = command(
        *("check", "--output", form, "--log.level", "debug"),
        *(word for name in probes for word in ("--probe", name)),
        env={**os.environ, **dict.fromkeys(_NAMES, value)},
    )
    told = ended.stdout + ended.stderr

    assert ended.returncode == 0, told[:3000]
    assert re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", told) is None
    assert not any(re.match("ready=|forged|# HELP forged", line) for line in told.splitlines())
    assert len(told) < 120_000
    FORMS[form](ended.stdout)
