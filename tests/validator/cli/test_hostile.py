"""Whatever stands on the command line: an exit code and a line, never a traceback."""

import os
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.validator.cli.fakes import Call
from tests.validator.hostile import TEXTS
from validator.cli import early, one_run
from validator.service import fresh, startup
from validator.service.ask import NoAnswerError

pytestmark = pytest.mark.slow

_OPTIONS = (
    *("--profile", "--device", "--probe", "--no-probe", "--output", "--output-file", "--record"),
    *("--timings", "--timeout", "--exit-style", "--strict", "--fail-open", "--quiet", "--max-age"),
    *("--server", "--no-run", "--config.file", "--config.check", "--log.level", "--log.format"),
    *("--web.listen-address", "--url", "--", "-h", "--version", "--list", "--fault", "--ready"),
    *("-q", "-v", "-o", "-V", "-qv", "--verbose"),
)
_VALUES = (*TEXTS, "cuda:0", "autograd", "json", "10m", "http://127.0.0.1:1", "unix:/nowhere")

#: What an argument of a program can be: no NUL, and bytes that are no UTF-8 as Python has them.
_WORDS = st.sampled_from(
    [
        word
        for word in _VALUES
        if "\0" not in word and not any("\ud800" <= c < "\udc80" for c in word)
    ]
)
_ARGUMENTS = st.one_of(
    st.tuples(st.sampled_from(_OPTIONS)),
    st.tuples(st.sampled_from(_OPTIONS), _WORDS),
    st.tuples(st.sampled_from(_OPTIONS), _WORDS).map(lambda pair: (f"{pair[0]}={pair[1]}",)),
)


@settings(
    derandomize=True,
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.sampled_from(("check", "serve", "healthcheck", "list", "explain", "schema")),
    st.lists(_ARGUMENTS, max_size=3),
    st.booleans(),
)
def test_any_arguments_are_told(
    call: Call,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    arguments: list[tuple[str, ...]],
    check: bool,  # noqa: FBT001 - drawn
) -> None:
    """With the configuration to be checked, and without; a daemon is not started."""

    def no_daemon(*_: object) -> None:
        del os.environ[early.SERVE]
        raise KeyboardInterrupt

    def no_answer(server: str) -> None:
        raise NoAnswerError(f"no answer from {server}")

    monkeypatch.setattr(os, "execv", no_daemon)
    monkeypatch.setattr(fresh, "fetch", no_answer)
    monkeypatch.setattr(one_run, "write_whole", lambda *_: None)
    monkeypatch.setattr(startup, "_own_addresses", lambda _: frozenset())
    given_now = [word for one in arguments for word in one]
    code = call(name, *(["--config.check"] if check else []), *given_now)
    told = capfd.readouterr()

    assert code in {0, 1, 2, 3, 130}
    assert "internal error" not in told.err
    assert "Traceback" not in told.err
    assert len(told.err) < 5000
    assert re.search(r"[^\n\t -~\xa0-\U0010ffff]", told.err) is None
    if code == 2 and not told.out:
        assert told.err.startswith("gpu-validator: ")


def test_a_long_argument_is_told_short(call: Call, capfd: pytest.CaptureFixture[str]) -> None:
    """What is wrong first, what would be right last."""
    assert call("check", "--profile", "x" * 100_000) == 2
    told = capfd.readouterr().err

    assert told.startswith("gpu-validator: error: --profile: unknown value 'xxx")
    assert told.endswith("x'; known: instant, quick, standard, deep\n")
    assert len(told) < 5000
