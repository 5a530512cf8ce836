"""Whatever is sent, nothing is answered by a fault of the service, and every answer is as OpenAPI says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.unit.serving.service import app_of, configured, publication, publish

schemathesis = pytest.importorskip("schemathesis")
EXAMPLES = 60
"""Requests of each kind to each route."""


@pytest.mark.slow
def test_whatever_is_sent_the_answer_is_no_fault_and_as_described(tmp_path: Path, model: Path) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.python.asgi import shutdown_lifespans
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    config = configured(tmp_path, {"limits": {"requests_per_second": None}})
    publish(config, publication(model))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app_of(config))
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    _wait(schema)
    routes = [found.ok() for found in schema.get_all_operations()]
    assert len(routes) == 7
    sent = 0
    for route in routes:
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            if mode == schemathesis.GenerationMode.NEGATIVE and not (route.path_parameters or route.body):
                continue  # nothing that could be wrong

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=route.as_strategy(generation_mode=mode))
            def one(case: Any) -> None:
                nonlocal sent
                sent += 1
                case.call_and_validate(checks=checks)

            one()
    shutdown_lifespans()  # else the app is stopped after the threads that it works in
    assert sent > 300


def _wait(schema: Any) -> None:
    """Until the service is ready."""
    deadline = time.monotonic() + 30
    while schema["/ready"]["GET"].Case().call().status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
