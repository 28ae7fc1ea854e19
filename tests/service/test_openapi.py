"""The service is what its own description says, whatever is sent."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from serving import Service

from maas_magics.api.backend import Backend
from maas_magics.service.control import control_routes
from maas_magics.service.jobs import job_routes
from maas_magics.service.metrics import Metrics
from maas_magics.service.models import model_routes
from maas_magics.service.openapi import OPERATIONS
from maas_magics.service.settings import Settings

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    ignored_auth,
]

for kind in ("application/msgpack", "application/vnd.apache.arrow.stream", "application/offset+octet-stream"):
    schemathesis.serializer(kind)(lambda context, value: value if isinstance(value, bytes) else str(value).encode())


@pytest.fixture(scope="module")
def described(service: Service) -> Any:
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("path", "method"), [(path, method) for path, method, *_ in OPERATIONS])
def test_every_operation_is_as_described(path: str, method: str, described: Any, service: Service) -> None:
    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=described[path][method.upper()].as_strategy())
    def ask(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {service.token}"}, checks=CHECKS, timeout=20)

    ask()


def test_every_route_is_described(here: Backend) -> None:
    metrics = Metrics()
    routes = [
        *control_routes(here, Settings(), metrics, lambda: True),
        *job_routes(here),
        *model_routes(here),
    ]
    served = {(route.path.rstrip("/"), method) for route in routes for method in route.methods or ()}
    told = {(path, method.upper()) for path, method, *_ in OPERATIONS}
    gets = {
        (path, "HEAD") for path, method in told if method == "GET"
    }  # the router answers HEAD wherever it answers GET
    inferring = {(path, method) for path, method in told if path.endswith("/infer")}
    assert told - inferring - {("/openapi.json", "GET")} <= served <= told | gets


def test_a_generated_client_finds_a_valid_description(service: Service) -> None:
    found = httpx2.get(f"{service.url}/openapi.json").json()
    assert found["openapi"].startswith("3.1") and found["security"] == [{"token": []}]
    names = {ref.rpartition("/")[2] for ref in _refs(found)}
    assert names <= set(found["components"]["schemas"])


def _refs(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [value["$ref"]] if isinstance(value.get("$ref"), str) else [r for v in value.values() for r in _refs(v)]
    return [ref for item in value for ref in _refs(item)] if isinstance(value, list) else []
