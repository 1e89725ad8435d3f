"""`condition`: wrong usage is told at once, and where it is no sidecar too."""

from pathlib import Path

import pytest

from tests.validator.cli.fakes import Call


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "NODE_NAME"),
        (("--node", "a"), "no pod with a token"),
        (("--node", "a", "--url", "ftp://here"), "--url"),
        (("--node", "a", "--prefix", "two words"), "--prefix"),
        (("--node", "a", "--interval", "0s"), "--interval"),
        (("--node", "a", "--interval", "soon"), "--interval"),
    ],
)
def test_wrong_usage(
    options: tuple[str, ...],
    complaint: str,
    call: Call,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Exit code 2, and what it is about."""
    for name in ("NODE_NAME", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    code = call("condition", "--once", "--account", str(tmp_path), *options)

    assert code == 2
    assert complaint in capsys.readouterr().err


def test_the_daemon_that_is_asked_is_that_of_the_settings(
    call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A listen address that is wrong is told; the sidecar reads it as the daemon does."""
    monkeypatch.setenv("GPU_VALIDATOR_WEB__LISTEN_ADDRESS", "nonsense")
    code = call("condition", "--once", "--node", "a", "--account", str(tmp_path))

    assert code == 2
    assert "listen_address" in capsys.readouterr().err
