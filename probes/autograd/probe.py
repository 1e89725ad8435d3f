"""The probe's `observe` and `judge`."""

from collections.abc import Iterator
from typing import Final

from probes.autograd.expected import EXPECTED, is_expected
from probes.autograd.observation import CASES, ENGINE, HOOKS, Observation, observe
from probes.autograd.trial import LACKING, STOPPED
from probes.contract import Finding, agree, require, skipped

__all__ = ["Observation", "judge", "observe"]

_HINT: Final = (
    "run `gpu-validator check --device cpu --probe autograd`: if it fails there too, reinstall "
    "torch in this image and look for what patches it at import; if not, suspect this GPU"
)

#: Checks that need float64: finite differences in other types are too inaccurate.
_OF_FLOAT64: Final = ("gradcheck", "gradcheck_tight", "gradgradcheck")


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every check, in the catalogue's order."""
    lacking = observation.without.get("float64", "")
    yield _facts_finding("grad_enabled", observation)
    for check in ("first_backward", *CASES, "network"):
        yield _comparison_finding(check, observation)
    for check in _OF_FLOAT64:
        if lacking:
            yield skipped(f"autograd.{check}", f"this device has no float64: {lacking}")
        else:
            yield _comparison_finding(check, observation)
    for check in ("forward_mode", "batched"):
        yield _comparison_finding(check, observation)
    for check in (*ENGINE, *HOOKS):
        yield _facts_finding(check, observation)
    for check in ("repeated", "threads"):
        yield _comparison_finding(check, observation)
    yield _facts_finding("thread_modes", observation)


def _comparison_finding(check: str, observation: Observation) -> Finding:
    return agree(f"autograd.{check}", observation.families.get(check, ()), hint=_HINT)


def _facts_finding(check: str, observation: Observation) -> Finding:
    """A finding over the facts of a check; wrong facts are listed with both values.

    If the back-end lacks an operation the facts end there; those before it must be right.
    """
    expected, facts = EXPECTED[check], observation.facts.get(check, {})
    if LACKING in facts:
        expected = {name: value for name, value in expected.items() if name in facts}
        if not expected:
            return skipped(f"autograd.{check}", str(facts[LACKING]))
    wrong = [
        name for name, value in expected.items() if not is_expected(facts.get(name, STOPPED), value)
    ]
    names = ", ".join(wrong)
    stopped = f" ({facts[STOPPED]})" if STOPPED in facts else ""
    finding = require(
        f"autograd.{check}",
        not wrong,
        {name: facts.get(name, STOPPED) for name in wrong} if wrong else list(expected),
        {name: expected[name] for name in wrong} if wrong else "each as documented",
        message=f"not as documented: {names}{stopped}",
        hint=_HINT,
        action="fix_image",
    )
    return finding.model_copy(update={"wrong": dict.fromkeys(wrong, "other")})
