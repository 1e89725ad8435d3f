"""Two requests to Kubernetes' API server: read a node's conditions, and write some of them."""

import contextlib
import http.client
import json
import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

#: Where a pod finds its token and the cluster's certificate authority.
ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_ANSWER_S: Final = 10.0  # of each step of a connection
#: A node lists up to 50 images, its volumes and what controllers note there: far less than this.
_MOST_BYTES: Final = 8 * 1024 * 1024


class ApiError(Exception):
    """The API server did not do what it was asked; the text says why."""


class ApiServer:
    """The API server of the cluster that this pod runs in, by the pod's own account."""

    def __init__(self, account: Path = ACCOUNT) -> None:
        """Find it by the variables that every container of a pod has.

        Raises:
            ApiError: this is no pod, or it has no token.
        """
        self._host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
        if not self._host:
            raise ApiError("this is no pod: KUBERNETES_SERVICE_HOST is not set, as in each it is")
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        authority = account / "ca.crt"
        try:
            self._port = int(port)
        except ValueError as error:
            raise ApiError(f"KUBERNETES_SERVICE_PORT: {port!r} is no port") from error
        try:
            self._context = ssl.create_default_context(cafile=str(authority))
        except OSError as error:
            why = error.strerror or error
            text = f"--account: {authority} cannot be read: {why}; see automountServiceAccountToken"
            raise ApiError(text) from error
        # Python 3.13 asks for extensions that the certificate authorities of some clusters lack.
        self._context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        self._token = account / "token"

    def conditions(self, node: str) -> list[dict[str, Any]]:
        """The conditions of a node.

        Raises:
            ApiError: they cannot be read.
        """
        found = self._ask("GET", f"/api/v1/nodes/{quote(node, safe='')}")
        try:
            return list(found.get("status", {}).get("conditions", []))
        except (AttributeError, TypeError) as error:
            raise ApiError(f"what came is no node: {error!r}") from error

    def write(self, node: str, conditions: Sequence[Mapping[str, Any]]) -> None:
        """Put these conditions in place of those of the same type; the others stay.

        Raises:
            ApiError: they cannot be written.
        """
        # Merged by type in the server: what the kubelet writes at the same time is not lost.
        patch = {"status": {"conditions": conditions}}
        self._ask("PATCH", f"/api/v1/nodes/{quote(node, safe='')}/status", patch)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        try:
            # Read each time: the kubelet replaces it within the hour.
            headers = {"Authorization": f"Bearer {self._token.read_text().strip()}"}
            if body is not None:
                headers["Content-Type"] = "application/strategic-merge-patch+json"
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=_ANSWER_S, context=self._context
            )
            with contextlib.closing(connection):
                text = None if body is None else json.dumps(body)
                connection.request(method, path, text, headers)
                with contextlib.closing(connection.getresponse()) as response:
                    content = response.read(_MOST_BYTES)
            if response.status != 200:
                line = content[:300].decode(errors="replace")
                raise ApiError(
                    f"{method} {path}: the API server answered {response.status}: {line}"
                )
            return json.loads(content)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(f"{method} {path}: {error}") from error
