"""What a settings file, a variable or an option may hold that is meant to do harm."""

from collections.abc import Iterator
from typing import Any, Final, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel

from validator.settings.model import Settings

#: Text that has ended, stalled or misled a reader of settings somewhere.
TEXTS: Final = (
    *("", " ", "~", "null", "yes", "-1", "0", "1", "1e999", ".inf", ".nan", "1:30", "0x", "0o8"),
    *("2001-02-30", "2001-02-03", "9999999d", "1e-300", "366d", "auto", "quick", "autograd"),
    *("* * * * *", "0 0 30 2 *", "0 0 29 2 *", "@daily", "*/0 * * * *", "0 0 * * 8"),
    *("/", "/nowhere/x", "/var", "/dev/null", "a/b", "/var/a\0b", "/var/\udcff", "\ud800"),
    *(f"/var/{'a' * 300}", f"/{'a/' * 3000}", "a" * 70_000, "9" * 5000, "[" * 3000, "{" * 3000),
    *(":8790", "[::1]:0", "nohost.invalid:1", "1.2.3.4:1", ":99999", ":8790,:8790", "a b:1"),
    *("\n", "a\nb", "\x1b[31m", "\x85", "\ufeff", "<<", "=", "&a", "*a", "!!int x", "%", "\t"),
)

_TEXT: Final = st.sampled_from(TEXTS) | st.text(max_size=20)
_NUMBERS: Final = (
    st.integers() | st.floats() | st.sampled_from((10**30, -(10**30), 2**63, 2**64, 1e308))
)

#: Values as JSON and YAML have them.
VALUES: Final[st.SearchStrategy[Any]] = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXT,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(_TEXT, below, max_size=4),
    max_leaves=8,
)


def keys(
    model: type[BaseModel] = Settings, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Every key of the settings, sections included, with a probe's name where one stands."""
    for name, field in model.model_fields.items():
        below: Any = field.annotation
        here = (*path, name)
        yield here
        if get_origin(below) is dict and not path:
            below = get_args(below)[1]
            here = (*here, "cuda_available")
            yield here
        generic = get_origin(below) is not None  # Python 3.10 takes it for a class
        if not generic and isinstance(below, type) and issubclass(below, BaseModel):
            yield from keys(below, here)
    if not path:
        limits = ("gpus", "free_memory_bytes", "first_kernel_s", "compute_modes", "asked")
        yield from (("probes", "cuda_available", "limits", name) for name in limits)


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A value at the end of a path of keys."""
    for name in reversed(path):
        value = {name: value}
    assert isinstance(value, dict)
    return value
