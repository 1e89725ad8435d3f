"""The probe's `observe` and `judge`."""

from collections.abc import Iterator
from typing import Final

from probes.autograd.expected import EXPECTED
from probes.autograd.observation import CASES, ENGINE, HOOKS, Observation, observe
from probes.contract import Finding, agree, skipped
from probes.kit.facts import judge_facts

__all__ = ["Observation", "judge", "observe"]

_HINT: Final = (
    "run `gpu-validator check --device cpu --probe autograd`: if it fails there too, reinstall "
    "torch in this image and look for what patches it at import; if not, suspect this GPU"
)

#: Checks that recordings of older releases do not have.
_LATER: Final = ("types",)


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every check, in the catalogue's order."""
    yield _facts_finding("grad_enabled", observation)
    for check in ("first_backward", *CASES, "types", "network", "forward_mode"):
        yield _comparison_finding(check, observation)
    for check in (*ENGINE, *HOOKS):
        yield _facts_finding(check, observation)
    for check in ("repeated", "threads"):
        yield _comparison_finding(check, observation)
    yield _facts_finding("thread_modes", observation)


def _comparison_finding(check: str, observation: Observation) -> Finding:
    if check in _LATER and observation.families and check not in observation.families:
        why = "this observation was made before there was such a check"
        return skipped(f"autograd.{check}", why)
    return agree(f"autograd.{check}", observation.families.get(check, ()), hint=_HINT)


def _facts_finding(check: str, observation: Observation) -> Finding:
    return judge_facts(f"autograd.{check}", observation.facts.get(check), EXPECTED[check], _HINT)
