"""Sweeps and comparisons on a service: the trials run there, the record of the sweep stays here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from serving import Service, in_thread, remote

from maas_magics.api.backend import Backend
from maas_magics.api.errors import ModelNotFound, OptionError, Refused
from maas_magics.api.events import EpochEnd, Event
from maas_magics.api.requests import TrainRequest
from maas_magics.api.specs import CallSpec
from maas_magics.api.sweep import SweepResult
from maas_magics.core.comparing import compare
from maas_magics.local.backend import LocalBackend
from maas_magics.remote.inference import InferenceBackend
from maas_magics.sweeps.start import SweepContext, start_sweep

X = np.random.default_rng(0).normal(size=(80, 3)).astype("float32")
Y = X[:, 0] * X[:, 1]
REQUEST = TrainRequest(name="m", data=X, target=Y, model="mlp", epochs=6)
CALL = CallSpec(sweep="lr=1e-4..1e-1 log, hidden=[8, 16]", trials=4)


def swept(backend: Backend, work: Path) -> SweepResult:
    return start_sweep(REQUEST, CALL, SweepContext(backend, work, backend.place)).result(600)


def told(result: SweepResult) -> list[Any]:
    return [(t.number, t.state, t.params, t.value, t.epochs) for t in result.trials]


def test_a_service_tries_what_a_kernel_tries(store: Path, tmp_path: Path) -> None:
    here = swept(LocalBackend(str(store)), tmp_path / "here")
    there_store = LocalBackend(str(tmp_path / "there"))
    with in_thread(there_store) as url, remote(url) as backend:
        there = swept(backend, tmp_path / "client")
        assert told(there) == told(here) and there.model.history == here.model.history
        assert [info.ref for info in backend.models.list()] == ["m:1"]
        assert not (tmp_path / "there" / "sweeps").exists() and (tmp_path / "client" / "sweeps" / "m.log").exists()
        found = compare(["m"], backend.models)
        assert found.records[0] == backend.models.record("m:1") == there_store.models.record("m:1")
        assert list(found.table.model) == ["m:1"] and found.table.bytes[0] > 1000
        with pytest.raises(ModelNotFound, match="There is no model 'nobody'"):
            compare(["m", "nobody"], backend.models)
        with pytest.raises(OptionError, match="'m' is not a candidate of a sweep"):
            backend.publish("m:1", "other")


@pytest.mark.slow
def test_a_sweep_on_a_service_is_stopped_and_resumed(tmp_path: Path) -> None:
    service = Service(tmp_path / "service")
    left = 6 * 2 + 2
    try:
        with remote(service.url, service.token) as backend:

            def enough(event: Event) -> None:
                nonlocal left
                left -= isinstance(event, EpochEnd)
                if left == 0:
                    job.stop()

            context = SweepContext(backend, tmp_path, "")
            job = start_sweep(REQUEST, msgspec.structs.replace(CALL, callbacks=(enough,)), context)
            part = job.result(600)
            assert 2 <= len(part.trials) < 4 and part.stopped, "the service may end a short trial before it hears"
            resumed = start_sweep(REQUEST, CALL, context, resume=True).result(600)
            assert told(resumed)[: len(part.trials)] == told(part) and len(resumed.trials) == 4
            assert [info.name for info in backend.models.list()] == ["m"]
    finally:
        service.stop()


def test_a_server_of_the_protocol_alone_refuses(service: Service) -> None:
    backend = InferenceBackend(service.client())
    with pytest.raises(Refused, match="does not report how a model was trained"):
        backend.models.record("cells")
    with pytest.raises(Refused, match="publishes no models"):
        backend.publish("m.sweep-1:1", "m")
    backend.close()
