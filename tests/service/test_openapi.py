"""The service is what its own description says, whatever is sent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
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

from maas_magics.service.app import create_app
from maas_magics.service.gate import OPEN
from maas_magics.service.openapi import OPERATIONS

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    ignored_auth,
]

pytestmark = pytest.mark.slow


@schemathesis.serializer(
    "application/vnd.apache.arrow.stream", "application/msgpack", "application/offset+octet-stream"
)
def as_it_is(context: Any, value: Any) -> bytes:
    data = getattr(value, "data", value)
    return data if isinstance(data, bytes) else str(data).encode("utf-8", "surrogateescape")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, filled: Path) -> Iterator[Service]:
    """A service of its own: what is sent at random may remove models."""
    folder = tmp_path_factory.mktemp("fuzzed")
    shutil.copytree(filled / "store", folder / "store", ignore=shutil.ignore_patterns("jobs.sqlite*", "data"))
    made = Service(folder)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def described(alone: Service) -> Any:
    return schemathesis.openapi.from_url(f"{alone.url}/openapi.json")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("path", "method"), [(path, method) for path, method, *_ in OPERATIONS])
def test_every_operation_is_as_described(path: str, method: str, described: Any, alone: Service) -> None:
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=described[path][method.upper()].as_strategy())
    def ask(case: schemathesis.Case) -> None:
        headers = {"Authorization": f"Bearer {alone.token}"}
        answer = case.call_and_validate(headers=headers, checks=CHECKS, timeout=600)
        if answer.status_code >= 400 and method != "head":
            told = answer.json()["error"]
            assert isinstance(told["message"] if path.startswith("/v1/") else told, str)

    ask()


def test_the_service_still_answers(alone: Service) -> None:
    assert httpx2.get(f"{alone.url}/v2", headers=alone.headers).status_code == 200
    assert alone.process.poll() is None


def test_every_route_is_described(here: Any) -> None:
    served = {
        (route.path, method)
        for route in create_app(here)._router.routes
        for method in route.methods - ({"HEAD"} if "GET" in route.methods else set())  # type: ignore[attr-defined]
    }
    told = {(path, method.upper()) for path, method, *_ in OPERATIONS}
    infer = {("/v2/models/{model}/infer", "POST"), ("/v2/models/{model}/versions/{version}/infer", "POST")}
    assert served | infer == told | {("/v2/", "GET")}
    assert {path for path, _ in served} >= OPEN


def test_a_generated_client_finds_a_valid_description(alone: Service) -> None:
    found = httpx2.get(f"{alone.url}/openapi.json").json()
    assert found["openapi"].startswith("3.1") and found["security"] == [{"token": []}]
    names = {ref.rpartition("/")[2] for ref in _refs(found)}
    assert names <= set(found["components"]["schemas"])


def _refs(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [value["$ref"]] if isinstance(value.get("$ref"), str) else [r for v in value.values() for r in _refs(v)]
    return [ref for item in value for ref in _refs(item)] if isinstance(value, list) else []
