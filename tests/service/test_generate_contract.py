"""Answers in chunks are the same in a kernel, on the application in this process, and on a service as it is really run."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import symbols
import torch
from serving import Service, in_thread, remote, wait_for
from symbols import Watched

from maas_magics.api.backend import Backend
from maas_magics.api.errors import DataError, GenerationEnded, ModelClosed, ModelNotFound, OptionError
from maas_magics.api.requests import GenerateRequest, PredictRequest, TrainRequest
from maas_magics.api.stream import Chunk, ChunkStream, Usage
from maas_magics.core.chunks import AHEAD
from maas_magics.local.backend import LocalBackend

PROMPT = [3, 1, 4, 1, 5, 9]
ENDLESS = {"stop": -1}
X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)


@contextmanager
def kernel(folder: Path) -> Iterator[Backend]:
    yield LocalBackend(str(folder / "store"))


@contextmanager
def application(folder: Path) -> Iterator[Backend]:
    with in_thread(LocalBackend(str(folder / "store"))) as url, remote(url) as made:
        yield made


@contextmanager
def process(folder: Path) -> Iterator[Backend]:
    service = Service(folder)
    try:
        with remote(service.url, service.token) as made:
            yield made
    finally:
        service.stop()


Make = Callable[[Path], Any]
Used = tuple[Backend, Watched]


@pytest.fixture(scope="module", params=[kernel, application, process], ids=lambda kind: kind.__name__)
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Used]:
    """A backend of each kind with the model of several passes, and ``m``, which answers in one."""
    folder = tmp_path_factory.mktemp("generating")
    torch.set_num_threads(1)
    with symbols.installed(folder) as watched:
        symbols.publish(folder / "store")
        own = LocalBackend(str(folder / "store"))
        own.submit(TrainRequest(name="m", data=X, target=X.sum(1), model="linear", epochs=1)).result(600)
        with request.param(folder) as made:
            yield made, watched


@pytest.fixture
def used(kept: Used) -> Used:
    """The same, with nothing on its way."""
    backend, watched = kept
    wait_for(lambda: watched.states == 0)
    watched.forget()
    backend.load("symbols")
    return kept


def asked(**given: Any) -> GenerateRequest:
    return GenerateRequest(**{"model": "symbols", "data": PROMPT, "max_steps": 20} | given)


def text(chunks: list[Chunk]) -> str:
    return "".join(chunk.delta for chunk in chunks)


def test_chunks_come_in_order_and_tell_how_it_ended(used: Used) -> None:
    backend, watched = used
    stream = backend.generate(asked())
    assert stream.model == "symbols:1"
    chunks = list(stream)
    assert text(chunks) == symbols.expected(PROMPT, 20)
    assert [chunk.index for chunk in chunks] == list(range(20))
    assert {(chunk.finish, chunk.usage) for chunk in chunks[:-1]} == {("", None)}
    assert chunks[-1].finish == "length" and chunks[-1].usage == Usage(len(PROMPT), 20)
    assert list(stream) == [] and wait_for(lambda: watched.states == 0)
    stopped = list(backend.generate(asked(data={"ids": np.array([PROMPT])}, max_steps=None, params={"seed": 1})))
    assert text(stopped) == symbols.expected(PROMPT, 10_000, 1) and stopped[-1].finish == "stop"


def test_a_long_answer_is_whole(used: Used) -> None:
    backend, _ = used
    chunks = list(backend.generate(asked(max_steps=3_000, params={"seed": 2, "stop": -1})))
    assert text(chunks) == symbols.expected(PROMPT, 3_000, 2, -1)
    assert [chunk.index for chunk in chunks] == list(range(3_000))


def test_several_are_stepped_together_and_answer_as_alone(used: Used) -> None:
    backend, watched = used
    few = AHEAD - 4  # so that none waits for its reader
    prompts = [[i] * (1 + 3 * i) for i in range(6)]
    with watched.held():
        streams = [backend.generate(asked(data=prompt, params=ENDLESS, max_steps=few)) for prompt in prompts]
        wait_for(lambda: watched.states >= 1)
    assert [text(list(stream)) for stream in streams] == [symbols.expected(p, few, stop=-1) for p in prompts]
    # The first may have been alone in one pass; the longest prompt takes three passes more than the shortest.
    assert len(watched.steps) <= 1 + few + 4 and max(watched.steps) >= 5


def test_it_is_read_by_async_for_too(used: Used) -> None:
    backend, _ = used

    async def read(seed: int) -> str:
        stream = await asyncio.to_thread(backend.generate, asked(params={"seed": seed}))
        return text([chunk async for chunk in stream])

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*map(read, range(5)))

    assert asyncio.run(all_of_them()) == [symbols.expected(PROMPT, 20, seed) for seed in range(5)]


def test_a_closed_or_forgotten_stream_frees_its_state(used: Used) -> None:
    backend, watched = used
    endless = asked(max_steps=None, params=ENDLESS)
    stream = backend.generate(endless)
    assert next(stream).index == 0 and watched.states == 1
    stream.close()
    stream.close()
    assert list(stream) == [] and wait_for(lambda: watched.states == 0)
    other: ChunkStream | None = backend.generate(endless)
    wait_for(lambda: watched.states == 1)
    del other
    gc.collect()
    assert wait_for(lambda: watched.states == 0)

    async def left() -> None:
        stream = await asyncio.to_thread(backend.generate, endless)
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(left())
    assert wait_for(lambda: watched.states == 0)


def test_one_that_fails_ends_alone_with_what_was_wrong(used: Used) -> None:
    backend, watched = used
    with watched.held():
        good, bad = backend.generate(asked()), backend.generate(asked(data=[symbols.POISON, 1]))
    got: list[Chunk] = []
    with pytest.raises(DataError, match="cannot answer this: a poisoned prompt"):
        got.extend(bad)
    assert len(got) == 2 and text(list(good)) == symbols.expected(PROMPT, 20)
    assert list(bad) == [] and wait_for(lambda: watched.states == 0)


def test_time_is_limited(used: Used) -> None:
    backend, watched = used
    stream = backend.generate(asked(max_steps=None, params=ENDLESS, timeout=0.2))
    with pytest.raises(GenerationEnded, match=r"took longer than 0.2 s"):
        for _ in stream:
            pass
    assert wait_for(lambda: watched.states == 0)


def test_unloading_ends_it_and_loading_brings_it_back(used: Used) -> None:
    backend, watched = used
    stream = backend.generate(asked(max_steps=None, params=ENDLESS))
    assert next(stream).index == 0 and backend.loaded()["symbols:1"] is True
    backend.unload("symbols")
    with pytest.raises(ModelClosed, match="symbols:1 was unloaded"):
        for _ in stream:
            pass
    assert wait_for(lambda: watched.states == 0) and backend.loaded()["symbols:1"] is False
    backend.load("symbols")
    assert text(list(backend.generate(asked()))) == symbols.expected(PROMPT, 20)


def test_what_is_wrong_is_told_at_once(used: Used) -> None:
    backend, watched = used
    for wrong, kind, told in (
        ({"model": "nothing"}, ModelNotFound, "no model 'nothing'"),
        ({"max_steps": 0}, OptionError, "at least 1"),
        ({"timeout": -1.0}, OptionError, "above 0"),
        ({"params": {"heat": 1}}, OptionError, "no parameter 'heat'"),
        ({"params": {"seed": "x"}}, OptionError, "are not valid for"),
        ({"data": {"words": [1]}}, DataError, "no input 'words'"),
        ({"data": {}}, DataError, "'ids' is missing"),
        ({"data": [[1], [2]]}, DataError, "2 rows"),
        ({"data": [[1], [2, 3]]}, DataError, "differ in length"),
        ({"model": "m", "data": X, "params": {"seed": 1}}, OptionError, "takes no parameters"),
    ):
        with pytest.raises(kind, match=told):
            backend.generate(asked(**wrong))
    assert watched.states == 0


def test_a_model_of_one_pass_answers_in_one_chunk(used: Used) -> None:
    backend, _ = used
    (chunk,) = backend.generate(GenerateRequest(model="m", data=X))
    found = backend.predict(PredictRequest(model="m", data=X))
    assert chunk.finish == "stop" and chunk.delta.model == found.model == "m:1"
    np.testing.assert_array_equal(chunk.delta.columns["prediction"], found.columns["prediction"])
    with pytest.raises(OptionError, match="several passes"):
        backend.predict(PredictRequest(model="symbols", data=[[1]]))
