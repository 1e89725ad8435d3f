"""Every answer of the HTTP interface is one that its own description allows."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.validator.service.test_api import FakeNode
from validator.service.api import make_app

# The operations have no parameters, so a few examples are all there are.
schema = schemathesis.openapi.from_asgi("/openapi.json", make_app(FakeNode()))


@schema.parametrize()
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_answers_conform_to_the_schema(case: schemathesis.Case[Any]) -> None:
    """Whatever is sent, the answer is one that /openapi.json describes."""
    case.call_and_validate(
        checks=[
            response_headers_conformance,
            response_schema_conformance,
            status_code_conformance,
        ]
    )
