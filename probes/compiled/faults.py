"""The faults for the checks of this probe."""

from typing import Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.wrong_operation import check_ids

_WRONG: Final = Event(
    "a rewrite of the compiler that is silently wrong",
    "https://github.com/pytorch/pytorch/issues/180771",
)
_GRADIENT: Final = Event(
    "the gradient of a scatter, all zeros when it is compiled",
    "https://github.com/pytorch/pytorch/issues/183602",
)
_WRITES: Final = Event(
    "a write to an input that reaches another buffer",
    "https://github.com/pytorch/pytorch/issues/198094",
)
_STALE: Final = Event(
    "a guard that is missing, so that an old answer is given again",
    "https://docs.pytorch.org/docs/stable/torch.compiler_dynamo_deepdive.html",
)
_RANDOM: Final = Event(
    "compiled random numbers that do not follow the generator",
    "https://docs.pytorch.org/docs/stable/torch.compiler_faq.html",
)


def _compiler(name: str, checks: str, event: Event) -> Fault:
    return Fault(
        name=f"compiled.{name}",
        kind="semantics",
        where="any",
        event=event,
        inject=(Injection("compiling.makes", {"name": name}),),
        trips=check_ids("compiled", checks),
    )


FAULTS: Final[tuple[Fault, ...]] = (
    _compiler("results_scaled", "forward half_types", _WRONG),
    _compiler("one_element_off", "forward", _WRONG),
    _compiler("results_not_written", "forward cache", _WRONG),
    _compiler("gradients_scaled", "gradients views_and_scatters", _GRADIENT),
    _compiler("gradients_zero", "views_and_scatters", _GRADIENT),
    _compiler("writes_lost", "in_place", _WRITES),
    _compiler("size_kept", "dynamic_shapes", _STALE),
    _compiler("answers_kept", "recompiles graph_breaks", _STALE),
    _compiler("half_types_lost", "half_types", _WRONG),
    _compiler("draws_repeated", "random", _RANDOM),
    _compiler("cache_by_code", "cache", _STALE),
)
