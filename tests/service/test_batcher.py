"""Requests that come at once are asked at once, and nobody gets another's answer."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import numpy as np
import pytest
from serving import Service, in_thread

from maas_magics.api.backend import Inferred
from maas_magics.api.errors import DataError, ModelNotFound
from maas_magics.local.backend import LocalBackend
from maas_magics.service.batcher import Batcher, Overloaded
from maas_magics.service.settings import Settings


class Model:
    """Doubles rows; a row of NaN is a mistake; counts what it was asked, and waits where it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.begun = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def __call__(self, model: str, inputs: Mapping[str, Any]) -> Inferred:
        self.begun.set()
        self.go.wait(600)
        x = inputs["x"]
        self.asked.append((model, len(x)))
        if model == "nobody":
            raise ModelNotFound("There is no model 'nobody'.")
        if len({len(values) for values in inputs.values()}) > 1:
            raise DataError("The inputs differ in length.")
        if np.isnan(x).any():
            raise DataError("A row is bad.")
        return Inferred(f"{model}:1", {"y": 2 * x, "first": x[:, 0]})


def ask(model: Model, requests: list[tuple[str, dict[str, Any]]], **options: Any) -> tuple[list[Any], list[Any]]:
    """Answers or errors of requests that come while the model is busy; and what was observed."""
    observed: list[Any] = []
    given = {"max_batch": 64, "max_delay": 0.0, "queue_limit": 1000} | options

    async def run() -> list[Any]:
        batcher = Batcher(model, observe=lambda *told: observed.append(told), **given)
        batcher.start(asyncio.get_running_loop())
        model.go.clear()
        first = batcher.ask("m", {"x": np.zeros((1, 2))})
        await asyncio.to_thread(model.begun.wait, 60)
        futures = [batcher.ask(name, inputs) for name, inputs in requests]
        model.go.set()
        await first
        found = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 600)
        await asyncio.to_thread(batcher.stop)
        assert batcher.waiting == 0
        return list(found)

    return asyncio.run(run()), observed


def rows(value: float, count: int = 1) -> dict[str, Any]:
    return {"x": np.full((count, 2), float(value))}


def test_what_piled_up_is_asked_at_once_and_split_again() -> None:
    model = Model()
    answers, observed = ask(model, [("m", rows(i, 1 + i % 3)) for i in range(20)])
    for i, answer in enumerate(answers):
        assert answer.outputs["y"].tolist() == [[2.0 * i] * 2] * (1 + i % 3)
        assert answer.outputs["first"].tolist() == [float(i)] * (1 + i % 3)
    assert model.asked == [("m", 1), ("m", 39)]
    assert observed[1][:3] == ("m:1", 20, 39) and observed[1][5] == 0


def test_a_batch_has_at_most_so_many_rows_and_a_large_request_goes_alone() -> None:
    model = Model()
    answers, _ = ask(model, [("m", rows(i, count)) for i, count in enumerate([3, 3, 3, 50, 2, 9])], max_batch=8)
    assert [count for _, count in model.asked] == [1, 6, 3, 50, 2, 9]
    assert [len(answer.outputs["y"]) for answer in answers] == [3, 3, 3, 50, 2, 9]


def test_models_types_and_shapes_are_kept_apart() -> None:
    model = Model()
    requests = [
        ("m", rows(1)),
        ("n", rows(2)),
        ("m", {"x": np.full((1, 2), 3, np.float32)}),
        ("m", {"x": np.full((1, 3), 4.0)}),
        ("m", rows(5)),
        ("m", {"z": np.zeros((1, 2)), "x": np.full((1, 2), 6.0)}),
    ]
    answers, _ = ask(model, requests)
    assert [answer.outputs["first"].tolist() for answer in answers] == [[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]]
    assert [answer.model for answer in answers] == ["m:1", "n:1", "m:1", "m:1", "m:1", "m:1"]
    assert answers[2].outputs["y"].dtype == np.float32 and len(model.asked) == 6


def test_a_bad_row_fails_its_own_request_alone() -> None:
    answers, observed = ask(Model(), [("m", rows(float("nan") if i == 3 else i)) for i in range(8)])
    assert isinstance(answers[3], DataError)
    assert [answer.outputs["first"][0] for i, answer in enumerate(answers) if i != 3] == [0, 1, 2, 4, 5, 6, 7]
    assert observed[1][5] == 1


def test_mistakes_that_would_come_out_right_together_do_not() -> None:
    """Two requests whose inputs differ in length, so that both inputs have three rows when they are joined."""
    one = {"x": np.zeros((2, 2)), "z": np.zeros((1, 2))}
    two = {"x": np.zeros((1, 2)), "z": np.zeros((2, 2))}
    answers, _ = ask(Model(), [("m", one), ("m", two), ("m", one)])
    assert all(isinstance(answer, DataError) for answer in answers)


def test_an_output_that_has_no_row_for_each_row_is_never_split() -> None:
    class Summing(Model):
        def __call__(self, model: str, inputs: Mapping[str, Any]) -> Inferred:
            super().__call__(model, inputs)
            return Inferred("m:1", {"sum": inputs["x"].sum(axis=0)})

    answers, _ = ask(Summing(), [("m", rows(i)) for i in range(5)])
    assert [answer.outputs["sum"].tolist() for answer in answers] == [[float(i)] * 2 for i in range(5)]


def test_requests_wait_for_others_as_long_as_they_may() -> None:
    model = Model()

    async def run() -> None:
        patient = Batcher(model, 4, 3600.0, 100, lambda *told: None)
        patient.start(asyncio.get_running_loop())
        first = patient.ask("m", rows(0))
        await asyncio.sleep(0.05)
        assert model.asked == []
        await asyncio.gather(first, *(patient.ask("m", rows(i)) for i in range(3)))  # a full batch waits for no time
        brief = Batcher(model, 4, 0.01, 100, lambda *told: None)
        brief.start(asyncio.get_running_loop())
        await brief.ask("m", rows(9))
        for batcher in (patient, brief):
            await asyncio.to_thread(batcher.stop)

    asyncio.run(run())
    assert [count for _, count in model.asked] == [4, 1]


def test_more_than_may_wait_are_turned_away_and_those_who_left_are_forgotten() -> None:
    model = Model()

    async def run() -> None:
        batcher = Batcher(model, 64, 0.0, 3, lambda *told: None)
        batcher.start(asyncio.get_running_loop())
        model.go.clear()
        futures = [batcher.ask("m", rows(i)) for i in range(3)]
        with pytest.raises(Overloaded, match="too much to do"):
            batcher.ask("m", rows(4))
        futures[1].cancel()
        model.go.set()
        assert (await futures[0]).outputs["first"].tolist() == [0.0]
        assert (await futures[2]).outputs["first"].tolist() == [2.0]
        assert (await batcher.ask("m", rows(7))).outputs["first"].tolist() == [7.0]
        await asyncio.to_thread(batcher.stop)

    asyncio.run(run())


def test_a_model_that_is_slow_holds_up_no_other() -> None:
    """As one is that must be opened first."""
    model = Model()
    opening = threading.Event()

    def infer(name: str, inputs: Mapping[str, Any]) -> Inferred:
        if name == "large":
            opening.wait(600)
        return model(name, inputs)

    async def run() -> None:
        batcher = Batcher(infer, 64, 0.0, 100, lambda *told: None)
        batcher.start(asyncio.get_running_loop())
        large = [batcher.ask("large", rows(i)) for i in range(3)]
        for i in range(5):
            assert (await asyncio.wait_for(batcher.ask("small", rows(i)), 600)).outputs["first"].tolist() == [i]
        assert not any(future.done() for future in large)
        opening.set()
        assert [(await future).outputs["first"][0] for future in large] == [0, 1, 2]
        await asyncio.to_thread(batcher.stop)

    asyncio.run(run())


def test_a_model_that_is_open_and_quick_is_asked_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    slow: list[float] = []
    state = {"open": True}
    clock = [0.0]  # this machine may be busy with something else
    told_by = SimpleNamespace(perf_counter=lambda: clock[0], monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr("maas_magics.service.batcher.time", told_by)

    def infer(name: str, inputs: Mapping[str, Any]) -> Inferred:
        threads.append("loop" if threading.current_thread() is threading.main_thread() else "thread")
        clock[0] += slow.pop() if slow else 0.0
        return Model()(name, inputs)

    async def run() -> None:
        batcher = Batcher(infer, 4, 0.0, 100, lambda *told: None, lambda name: state["open"])
        batcher.start(asyncio.get_running_loop())

        async def asked(count: int) -> list[str]:
            threads.clear()
            found = await asyncio.wait_for(asyncio.gather(*(batcher.ask("m", rows(i)) for i in range(count))), 600)
            assert [answer.outputs["first"][0] for answer in found] == list(range(count))
            return list(threads)

        assert await asked(1) == ["thread"]  # nobody knows yet
        assert await asked(1) == ["loop"]
        assert await asked(11) == ["loop"] * 3
        state["open"] = False  # a new version is there, or it was evicted
        assert await asked(1) == ["thread"]
        state["open"] = True
        slow.append(0.01)
        assert await asked(1) == ["loop"]
        assert await asked(1) == ["thread"]
        assert await asked(1) == ["loop"]
        await asyncio.to_thread(batcher.stop)

    asyncio.run(run())


def test_a_model_that_is_not_there_is_looked_for_once_a_batch() -> None:
    model = Model()
    answers, observed = ask(model, [("nobody", rows(i)) for i in range(9)])
    assert all(isinstance(answer, ModelNotFound) for answer in answers)
    assert sorted(model.asked) == [("m", 1), ("nobody", 9)]
    assert ("", 9, 9) in [told[:3] for told in observed]


def test_what_observes_may_fail_and_requests_are_answered(capfd: pytest.CaptureFixture[str]) -> None:
    def observe(*told: Any) -> None:
        raise OSError("no room for figures")

    async def run() -> None:
        batcher = Batcher(Model(), 64, 0.0, 100, observe)
        batcher.start(asyncio.get_running_loop())
        for i in range(3):
            assert (await asyncio.wait_for(batcher.ask("m", rows(i)), 600)).outputs["first"].tolist() == [i]
        assert batcher.alive
        await asyncio.to_thread(batcher.stop)
        assert not batcher.alive

    asyncio.run(run())
    assert "no room for figures" in capfd.readouterr().err


@pytest.mark.parametrize("opened", [None, lambda name: name != "m3"], ids=["threads", "quick"])
@pytest.mark.parametrize("delay", [0.0, 0.005])
def test_thousands_of_requests_of_many_kinds_each_get_their_own_answer(delay: float, opened: Any) -> None:
    rng = np.random.default_rng(5)
    kinds = [np.float32, np.float64]

    async def run() -> None:
        batcher = Batcher(Model(), 16, delay, 10_000, lambda *told: None, opened)
        batcher.start(asyncio.get_running_loop())

        async def one(i: int) -> None:
            x = np.full((int(rng.integers(1, 20)), int(rng.integers(1, 3))), i, kinds[i % 2])
            await asyncio.sleep(float(rng.random()) * 0.2)
            future = batcher.ask(f"m{i % 5}", {"x": x})
            if i % 17 == 0:
                await asyncio.sleep(0)
                future.cancel()
                return
            found = await asyncio.wait_for(future, 600)
            assert found.model == f"m{i % 5}:1" and np.array_equal(found.outputs["y"], 2 * x)
            assert found.outputs["y"].dtype == x.dtype

        await asyncio.gather(*map(one, range(3000)))
        await asyncio.to_thread(batcher.stop)
        assert batcher.waiting == 0 and not batcher._groups

    asyncio.run(run())


@pytest.mark.slow
def test_under_load_everybody_gets_their_own_answer(service: Service, here: LocalBackend) -> None:
    """Distinct rows from many connections, some of them bad, while versions are loaded and unloaded."""
    x = np.random.default_rng(3).normal(size=(400, 8)).astype(np.float32)
    expected = {ref: here.infer(ref, {"x": x}).outputs["probabilities"] for ref in ("net:1", "net:2")}
    wrong: list[str] = []
    over = threading.Event()

    def load() -> None:
        with httpx2.Client(headers=service.headers) as client:
            while not over.is_set():
                client.post(f"{service.url}/v2/repository/models/net:1/load")
                client.post(f"{service.url}/v2/repository/models/net/load")

    def some(seed: int) -> None:
        rng = np.random.default_rng(seed)
        with httpx2.Client(base_url=service.url, headers=service.headers, timeout=600) as client:
            for _ in range(60):
                i, count, version = int(rng.integers(390)), int(rng.integers(1, 9)), int(rng.integers(1, 3))
                bad = rng.random() < 0.1
                data = x[i : i + count].ravel().tolist()[: None if not bad else -1]
                body = {"inputs": [{"name": "x", "shape": [count, 8], "datatype": "FP32", "data": data}]}
                answer = client.post(f"/v2/models/net/versions/{version}/infer", content=json.dumps(body))
                if bad != (answer.status_code == 400):
                    wrong.append(answer.text)
                elif not bad:
                    found = next(o["data"] for o in answer.json()["outputs"] if o["name"] == "probabilities")
                    if not np.allclose(found, expected[f"net:{version}"][i : i + count].ravel(), rtol=1e-4):
                        wrong.append(f"rows {i} to {i + count} of version {version}")

    loader = threading.Thread(target=load)
    loader.start()
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(some, range(16)))
    over.set()
    loader.join()
    assert not wrong, wrong[:3]
    told = httpx2.get(f"{service.url}/metrics", headers=service.headers).text
    batches = next(float(line.split()[1]) for line in told.splitlines() if line.startswith("maas_batch_rows_count"))
    total = next(float(line.split()[1]) for line in told.splitlines() if line.startswith("maas_batch_rows_sum"))
    assert total > batches, "nothing was ever merged"


@pytest.mark.slow
def test_a_new_version_is_answered_without_a_failed_request(tmp_path: Path) -> None:
    """Versions are published while clients ask: each is answered, by the old version and then by the new one."""
    from maas_magics.api.requests import TrainRequest

    here = LocalBackend(str(tmp_path))
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)

    def train() -> None:
        here.submit(TrainRequest(name="hot", data=x, target=x[:, 0], model="linear", epochs=1)).result(600)

    train()
    seen: list[str] = []
    failed: list[str] = []
    over = threading.Event()
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]})

    with in_thread(here, Settings()) as url:

        def some() -> None:
            with httpx2.Client(base_url=url) as client:
                while not over.is_set():
                    answer = client.post("/v2/models/hot/infer", content=body)
                    (seen if answer.status_code == 200 else failed).append(
                        answer.json().get("model_version", answer.text)
                    )

        threads = [threading.Thread(target=some) for _ in range(4)]
        for thread in threads:
            thread.start()
        for version in range(1, 6):
            while str(version) not in seen:  # the newest is asked for by everybody from some time on
                assert not failed, failed[:3]
                time.sleep(0.01)
            if version < 5:
                train()
        over.set()
        for thread in threads:
            thread.join()
    assert not failed and set(seen) == {"1", "2", "3", "4", "5"}
