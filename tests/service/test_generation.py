"""Answers in chunks in this process: the loop that steps them, and the streams that hand them out."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
import symbols
from serving import in_thread, wait_for
from symbols import Watched

import maas_magics as maas
from maas_magics.api.errors import (
    DataError,
    GenerationEnded,
    MissingDependency,
    ModelClosed,
    OptionError,
    StoreError,
)
from maas_magics.api.requests import GenerateRequest, PredictRequest, TrainRequest
from maas_magics.api.stream import Chunk, ChunkStream, Usage
from maas_magics.core.chunks import AHEAD
from maas_magics.core.generation import loop
from maas_magics.core.runtimes import RUNTIMES
from maas_magics.core.store.manifest import read_manifest, write_plain_manifest
from maas_magics.local.backend import LocalBackend
from maas_magics.session import current

PROMPT = [3, 1, 4, 1, 5, 9]
ENDLESS = {"stop": -1}


@pytest.fixture(autouse=True)
def watched(tmp_path: Path) -> Iterator[Watched]:
    """What the model says; its package is installed."""
    with symbols.installed(tmp_path) as found:
        yield found


@pytest.fixture
def backend(store: Path) -> LocalBackend:
    symbols.publish(store)
    return LocalBackend(str(store))


@pytest.fixture
def held(watched: Watched) -> Iterator[Callable[[], None]]:
    """Every step waits until this is called."""
    with ExitStack() as stack:
        stack.enter_context(watched.held())
        yield stack.close


def request(**given: Any) -> GenerateRequest:
    return GenerateRequest(**{"model": "symbols", "data": PROMPT, "max_steps": 20} | given)


def text(chunks: list[Chunk]) -> str:
    return "".join(chunk.delta for chunk in chunks)


def test_chunks_come_in_order_and_tell_how_it_ended(backend: LocalBackend, watched: Watched) -> None:
    stream = backend.generate(request())
    assert stream.model == "symbols:1" and "symbols:1" in repr(stream)
    chunks = list(stream)
    assert text(chunks) == symbols.expected(PROMPT, 20)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    *before, last = chunks
    assert {(chunk.finish, chunk.usage) for chunk in before} <= {("", None)}
    assert last.finish == "length" and last.usage == Usage(len(PROMPT), 20)
    assert list(stream) == [] and wait_for(lambda: watched.states == 0)
    stopped = list(backend.generate(request(max_steps=None, params={"seed": 1})))
    assert text(stopped) == symbols.expected(PROMPT, 10_000, 1) and stopped[-1].finish == "stop"


def test_a_stream_is_read_by_async_for_too(backend: LocalBackend) -> None:
    async def read(seed: int) -> str:
        return text([chunk async for chunk in backend.generate(request(params={"seed": seed}))])

    async def both() -> list[str]:
        return await asyncio.gather(read(1), read(2))

    assert asyncio.run(both()) == [symbols.expected(PROMPT, 20, seed) for seed in (1, 2)]


def test_a_cancelled_wait_loses_no_chunk(backend: LocalBackend, held: Callable[[], None]) -> None:
    async def read() -> str:
        stream = backend.generate(request())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.05)
        held()
        return text([chunk async for chunk in stream])

    assert asyncio.run(read()) == symbols.expected(PROMPT, 20)


def test_several_are_stepped_together_and_answer_as_alone(
    backend: LocalBackend, watched: Watched, held: Callable[[], None]
) -> None:
    prompts = [[i] * (1 + 3 * i) for i in range(6)]
    few = AHEAD - 4  # so that none waits for its reader
    streams = [backend.generate(request(data=prompt, params=ENDLESS, max_steps=few)) for prompt in prompts]
    wait_for(lambda: watched.states >= 1)
    held()
    assert [text(list(stream)) for stream in streams] == [symbols.expected(p, few, stop=-1) for p in prompts]
    # The first may have been alone in one pass; the longest prompt takes three passes more than the shortest.
    assert len(watched.steps) <= 1 + few + 4 and max(watched.steps) >= 5
    found = backend.generating()
    assert (found["states"], found["waiting"], found["steps"]) == (0, 0, len(watched.steps)) and found["begun"] > 0


def test_no_more_states_than_slots(backend: LocalBackend, watched: Watched, held: Callable[[], None]) -> None:
    streams = [backend.generate(request(data=[0, i])) for i in range(20)]
    held()
    assert [text(list(stream)) for stream in streams] == [symbols.expected([0, i], 20) for i in range(20)]
    assert max(watched.steps) <= symbols.SymbolSession.slots


def test_a_closed_or_forgotten_stream_frees_its_state(backend: LocalBackend, watched: Watched) -> None:
    endless = request(max_steps=None, params=ENDLESS)
    stream = backend.generate(endless)
    assert next(stream).index == 0
    stream.close()
    stream.close()
    assert list(stream) == [] and wait_for(lambda: watched.states == 0)
    other: ChunkStream | None = backend.generate(endless)
    wait_for(lambda: watched.states == 1)
    del other
    gc.collect()
    assert wait_for(lambda: watched.states == 0)

    async def left() -> None:
        stream = backend.generate(endless)
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(left())
    assert wait_for(lambda: watched.states == 0)


def test_a_slow_reader_is_waited_for_and_holds_up_no_other(backend: LocalBackend, watched: Watched) -> None:
    slow = backend.generate(request(max_steps=200, params=ENDLESS))
    wait_for(lambda: len(watched.steps) > AHEAD)
    other = list(backend.generate(request(max_steps=100, data=[2], params=ENDLESS)))
    assert text(other) == symbols.expected([2], 100, stop=-1)
    # Two passes read the prompts; nothing more was made than the slow reader may be behind.
    assert len(watched.steps) <= AHEAD + 2 + 100 + 1
    assert text(list(slow)) == symbols.expected(PROMPT, 200, stop=-1)


def test_one_that_fails_ends_alone_with_what_was_wrong(
    backend: LocalBackend, watched: Watched, held: Callable[[], None]
) -> None:
    good = backend.generate(request())
    bad = backend.generate(request(data=[symbols.POISON, 1]))
    held()
    got = []
    with pytest.raises(DataError, match="cannot answer this: a poisoned prompt"):
        got += list(bad)
    assert text(list(good)) == symbols.expected(PROMPT, 20)
    assert list(bad) == [] and wait_for(lambda: watched.states == 0)


def test_a_runtime_that_breaks_its_word_ends_what_is_on_its_way(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(symbols.SymbolSession, "step", lambda self, states: [])
    with pytest.raises(DataError, match="cannot answer this"):
        list(backend.generate(request()))
    monkeypatch.undo()


@pytest.mark.parametrize(("kind", "name"), [(symbols.SymbolSession, "start"), (symbols.SymbolSampler, "choose")])
def test_a_start_or_a_choice_that_fails_ends_that_answer_alone(
    kind: Any, name: str, backend: LocalBackend, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = backend.generate(request(max_steps=100, params=ENDLESS))
    next(good)
    sound = getattr(kind, name)

    def fails(self: Any, given: Any) -> Any:
        if self.rng is not None if name == "choose" else given[0][0].tolist() == [7]:
            raise ZeroDivisionError("not this one")
        return sound(self, given)

    monkeypatch.setattr(kind, name, fails)
    with pytest.raises(DataError, match="cannot answer this: not this one"):
        list(backend.generate(request(data=[7], params={"seed": 1})))
    assert len(list(good)) == 99 and wait_for(lambda: watched.states == 0)


def test_time_is_limited(backend: LocalBackend, watched: Watched, held: Callable[[], None]) -> None:
    stream = backend.generate(request(max_steps=None, params=ENDLESS, timeout=0.2))
    waits = [backend.generate(request(params=ENDLESS, timeout=0.1)) for _ in range(9)]
    held()
    with pytest.raises(GenerationEnded, match=r"took longer than 0.2 s"):
        for _ in stream:
            pass
    for each in waits:
        each.close()
    assert wait_for(lambda: watched.states == 0)


def test_time_passes_for_a_reader_that_never_reads(backend: LocalBackend, watched: Watched) -> None:
    stream = backend.generate(request(max_steps=None, params=ENDLESS, timeout=0.1))
    wait_for(lambda: len(watched.steps) > AHEAD)
    assert wait_for(lambda: watched.states == 0)
    with pytest.raises(GenerationEnded):
        list(stream)


def test_unread_answers_give_way_to_those_that_wait(
    backend: LocalBackend, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = symbols.SymbolSession.slots
    unread = [backend.generate(request(max_steps=None, params=ENDLESS)) for _ in range(slots)]
    wait_for(lambda: watched.states == slots)
    late = backend.generate(request(data=[1]))
    monkeypatch.setattr(loop, "PATIENCE", 0.1)
    unread[0].close()  # one more turn, in which the new patience counts
    other = backend.generate(request(data=[2]))
    assert text(list(late)) == symbols.expected([1], 20) and text(list(other)) == symbols.expected([2], 20)
    ended = 0
    for stream in unread[1:]:
        try:
            assert len(list(islice(stream, 2 * AHEAD))) == 2 * AHEAD
        except GenerationEnded as error:
            assert "was not read" in error.message
            ended += 1
        stream.close()
    assert ended <= 2 and wait_for(lambda: watched.states == 0)


def test_memory_for_open_models_counts_those_that_generate(store: Path, watched: Watched) -> None:
    for name in ("one", "two", "three"):
        symbols.publish(store, name)
    size = (store / "models/one/1/table.npy").stat().st_size
    backend = LocalBackend(str(store), memory=2.5 * size)
    busy = backend.generate(request(model="one", max_steps=None, params=ENDLESS))
    for name in ("two", "three"):
        assert text(list(backend.generate(request(model=name)))) == symbols.expected(PROMPT, 20)
        wait_for(lambda: watched.states == 1)
    assert set(backend.loaded()) == {"one:1", "three:1"}
    busy.close()


def test_unloading_ends_it_and_loading_brings_it_back(
    backend: LocalBackend, watched: Watched, held: Callable[[], None]
) -> None:
    streams = [backend.generate(request(params=ENDLESS))]
    backend.load("symbols")  # anew: what is on its way stays with the one before
    streams.append(backend.generate(request(params=ENDLESS)))
    assert backend.loaded() == {"symbols:1": True}
    backend.unload("symbols")
    held()
    for stream in streams:
        with pytest.raises(ModelClosed, match="symbols:1 was unloaded"):
            list(stream)
    assert wait_for(lambda: watched.states == 0) and backend.loaded() == {"symbols:1": False}
    with pytest.raises(ModelClosed, match="is not loaded"):
        backend.generate(request())
    backend.load("symbols")
    assert text(list(backend.generate(request()))) == symbols.expected(PROMPT, 20)


def test_what_is_wrong_is_told_at_once(backend: LocalBackend) -> None:
    for wrong, kind, told in (
        ({"max_steps": 0}, OptionError, "at least 1"),
        ({"timeout": -1.0}, OptionError, "above 0"),
        ({"timeout": float("nan")}, OptionError, "above 0"),
        ({"params": {"heat": 1}}, OptionError, "no parameter 'heat'"),
        ({"data": {"words": [1]}}, DataError, "no input 'words'"),
        ({"data": {}}, DataError, "'ids' is missing"),
        ({"data": "abc"}, DataError, "INT64 was expected"),
        ({"data": [[1], [2]]}, DataError, "2 rows"),
        ({"data": [[1], [2, 3]]}, DataError, "differ in length"),
        ({"data": [[[1]]]}, DataError, "has shape"),
    ):
        with pytest.raises(kind, match=told):
            backend.generate(request(**wrong))
    assert text(list(backend.generate(request(data={"ids": np.array([PROMPT])})))) == symbols.expected(PROMPT, 20)
    assert text(list(backend.generate(request(data=[])))) == symbols.expected([], 20)


def test_a_model_of_several_passes_is_not_predicted(backend: LocalBackend) -> None:
    with pytest.raises(OptionError, match="several passes"):
        backend.predict(PredictRequest(model="symbols", data=[[1]]))
    assert backend.models.get("symbols").iterative


def test_a_model_of_one_pass_answers_in_one_chunk(backend: LocalBackend) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    backend.submit(TrainRequest(name="m", data=x, target=x.sum(1), model="linear", epochs=1)).result(600)
    (chunk,) = backend.generate(GenerateRequest(model="m", data=x))
    found = backend.predict(PredictRequest(model="m", data=x))
    assert chunk.finish == "stop" and chunk.delta.model == found.model == "m:1"
    np.testing.assert_array_equal(chunk.delta.columns["prediction"], found.columns["prediction"])
    with pytest.raises(OptionError, match="takes no parameters"):
        backend.generate(GenerateRequest(model="m", data=x, params={"seed": 1}))
    with pytest.raises(DataError):
        backend.generate(GenerateRequest(model="m", data=x[:, :2]))


def test_a_runtime_that_is_not_there_is_told(store: Path) -> None:
    symbols.publish(store, "other", "symbolz")
    with pytest.raises(MissingDependency, match="runtime 'symbolz', which is not installed"):
        LocalBackend(str(store)).generate(request(model="other"))
    assert "symbols" in RUNTIMES.names()


def test_a_changed_file_is_not_opened(backend: LocalBackend, store: Path) -> None:
    file = store / "models/symbols/1/table.npy"
    file.write_bytes(file.read_bytes()[:-8] + bytes(8))
    with pytest.raises(StoreError, match=r"table.npy was changed"):
        backend.generate(request())


def test_streams_from_many_threads(backend: LocalBackend, watched: Watched) -> None:
    found: dict[int, str] = {}

    def read(seed: int) -> None:
        found[seed] = text(list(backend.generate(request(max_steps=60, params={"seed": seed, "stop": -1}))))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert found == {seed: symbols.expected(PROMPT, 60, seed, -1) for seed in range(12)}
    assert wait_for(lambda: watched.states == 0) and "symbols" in sys.modules


def test_the_public_function(backend: LocalBackend, watched: Watched) -> None:
    assert text(list(maas.generate("symbols", PROMPT, max_steps=5))) == symbols.expected(PROMPT, 5)
    drawn = maas.generate("symbols", {"ids": PROMPT}, params={"seed": 3}, max_steps=9, timeout=60)
    assert text(list(drawn)) == symbols.expected(PROMPT, 9, 3)
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0] * 5, "b": ["x", "y"] * 10}, index=range(5, 25))
    maas.train("m", data=frame.assign(y=frame["a"] > 2), target="y", model="linear", epochs=1)
    stream = maas.generate("m", frame)
    (chunk,) = stream
    assert stream.model == "m:1" and chunk.finish == "stop"
    pd.testing.assert_frame_equal(chunk.delta, maas.predict("m", frame))
    with pytest.raises(OptionError, match="takes no parameters"):
        maas.generate("m", frame, params={"seed": 1})
    with pytest.raises(OptionError, match="max steps"):
        maas.generate("m", frame, max_steps="many")  # type: ignore[arg-type]


def test_the_public_function_on_a_service(backend: LocalBackend, watched: Watched, tmp_path: Path) -> None:
    with in_thread(backend) as url:
        current().connect(url)
        stream = maas.generate("symbols", PROMPT, max_steps=40)
        assert stream.model == "symbols:1" and text(list(stream)) == symbols.expected(PROMPT, 40)
        current().connect("kernel")


def test_runtimes_with_one_pass_answer_predictions(store: Path, watched: Watched) -> None:
    """A version whose manifest names a runtime is opened by it; what it answers goes the usual way."""
    backend = LocalBackend(str(store))
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    backend.submit(TrainRequest(name="m", data=x, target=x.sum(1), model="linear", epochs=1)).result(600)
    folder = store / "models/m/1"
    manifest = read_manifest(folder)
    write_plain_manifest(folder, msgspec.structs.replace(manifest, runtime="sums"))
    found = LocalBackend(str(store)).predict(PredictRequest(model="m", data=x)).columns["prediction"]
    np.testing.assert_allclose(found, 2 * x.sum(1), rtol=1e-5)
    write_plain_manifest(folder, msgspec.structs.replace(manifest, runtime="symbols"))
    with pytest.raises(StoreError, match="m:1 cannot be opened"):  # there is no file that it knows
        LocalBackend(str(store)).predict(PredictRequest(model="m", data=x))
