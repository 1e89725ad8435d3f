"""`condition`: wrong usage is told at once, and where it is no sidecar too."""

from pathlib import Path

import pytest

from tests.validator.cli.fakes import Call


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "NODE_NAME"),
        (("--node", "a"), "no pod: KUBERNETES_SERVICE_HOST"),
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


def test_a_pod_without_an_account_is_told(
    call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its folder, and what mounts it."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    told = []
    for port in ("443", "tcp://10.0.0.1:443"):
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
        assert call("condition", "--once", "--node", "a", "--account", str(tmp_path)) == 2
        told.append(capsys.readouterr().err)

    assert f"--account: {tmp_path}/ca.crt cannot be read: No such file" in told[0]
    assert "automountServiceAccountToken" in told[0]
    assert "KUBERNETES_SERVICE_PORT: 'tcp://10.0.0.1:443' is no port" in told[1]


def test_the_daemon_that_is_asked_is_that_of_the_settings(
    call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A listen address that is wrong is told; the sidecar reads it as the daemon does."""
    monkeypatch.setenv("GPU_VALIDATOR_WEB__LISTEN_ADDRESS", "nonsense")
    code = call("condition", "--once", "--node", "a", "--account", str(tmp_path))

    assert code == 2
    assert "listen_address" in capsys.readouterr().err
