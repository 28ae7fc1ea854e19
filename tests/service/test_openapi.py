"""Whatever the service's own description allows to be sent, no answer is a failure of the service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from serving import Service

from maas_magics.service.app import create_app
from maas_magics.service.gate import OPEN
from maas_magics.service.openapi import OPERATIONS

pytestmark = pytest.mark.slow


@schemathesis.serializer(
    "application/vnd.apache.arrow.stream", "application/msgpack", "application/offset+octet-stream"
)
def as_it_is(ctx: Any, value: Any) -> bytes:
    data = getattr(value, "data", value)
    return data if isinstance(data, bytes) else str(data).encode("utf-8", "surrogateescape")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, filled: Path) -> Iterator[Service]:
    """A service of its own: what is sent at random may remove models."""
    import shutil

    folder = tmp_path_factory.mktemp("fuzzed")
    shutil.copytree(filled / "store", folder / "store", ignore=shutil.ignore_patterns("jobs.sqlite*", "data"))
    made = Service(folder)
    yield made
    made.stop()


@pytest.mark.parametrize(("path", "method"), [(path, method) for path, method, *_ in OPERATIONS])
def test_nothing_described_makes_the_service_fail(path: str, method: str, alone: Service) -> None:
    described = schemathesis.openapi.from_url(f"{alone.url}/openapi.json")

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=described[path][method.upper()].as_strategy())
    def ask(case: schemathesis.Case) -> None:
        answer = case.call(headers=alone.headers, timeout=20)
        assert answer.status_code < 500 or answer.status_code in (501, 503), answer.content
        if answer.status_code >= 400 and method != "head":
            assert isinstance(answer.json()["error"], str)

    ask()


def test_the_service_still_answers(alone: Service) -> None:
    assert httpx2.get(f"{alone.url}/v2", headers=alone.headers).status_code == 200
    assert alone.process.poll() is None


def test_every_route_is_described(here: object) -> None:
    app = create_app(here)  # type: ignore[arg-type]
    served = {
        (route.path, method)  # type: ignore[attr-defined]
        for route in app._rest.routes
        for method in route.methods - ({"HEAD"} if "GET" in route.methods else set())  # type: ignore[attr-defined]
    }
    told = {(path, method.upper()) for path, method, *_ in OPERATIONS}
    infer = {("/v2/models/{model}/infer", "POST"), ("/v2/models/{model}/versions/{version}/infer", "POST")}
    assert served | infer == told | {("/v2/", "GET"), ("/openapi.json", "GET")}
    assert {path for path, _ in served} >= OPEN
