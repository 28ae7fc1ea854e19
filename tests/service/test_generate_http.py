"""Answers in chunks over HTTP, as any client sees them: taken up again, cancelled, waited for, within limits."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
import pytest
import symbols
import torch
from serving import Address, Service, in_thread, remote, wait_for
from symbols import Watched

from maas_magics.api.errors import GenerationEnded, GenerationLost, MaasError
from maas_magics.api.requests import GenerateRequest, PredictRequest, TrainRequest
from maas_magics.api.stream import Chunk
from maas_magics.local.backend import LocalBackend
from maas_magics.remote import generate as remote_generate
from maas_magics.remote.predictions import rows_to_bytes
from maas_magics.service import generation
from maas_magics.service.settings import Settings
from maas_magics.service.tokens import Token, Tokens, digest_of

PROMPT = [3, 1, 4, 1, 5, 9]
PATH = "/maas/v1/models/symbols/generate"
ENDLESS = {"inputs": PROMPT, "parameters": {"stop": -1}}
WIDE = {"inputs": PROMPT, "parameters": {"stop": -1, "wide": 20_000}}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with symbols.installed(tmp_path) as found:
        symbols.publish(tmp_path / "store")
        yield found
        wait_for(lambda: found.states == 0)


@contextmanager
def serving(tmp_path: Path, **settings: Any) -> Iterator[Address]:
    with in_thread(LocalBackend(str(tmp_path / "store")), Settings(**settings)) as url:
        yield url


@pytest.fixture
def url(tmp_path: Path, watched: Watched) -> Iterator[Address]:
    with serving(tmp_path) as found:
        yield found


class Line:
    """A connection that reads events, until it is left."""

    def __init__(self, url: str, asked: Any = None, *, keep: float = 0, id: str = "", last: int | None = None) -> None:
        self._client = httpx2.Client(timeout=60)
        headers = {} if last is None else {"last-event-id": str(last)}
        if id:
            request = self._client.build_request("GET", f"{url}/maas/v1/generations/{id}", headers=headers)
        else:
            request = self._client.build_request("POST", f"{url}{PATH}", params={"keep": keep}, json=asked)
        self.answer = self._client.send(request, stream=True)
        assert self.answer.status_code == 200, self.answer.read()
        self.id = self.answer.headers["x-generation"]
        self._events = iter(httpx2.EventSource(self.answer))

    def read(self, count: int) -> list[dict[str, Any]]:
        return [json.loads(next(self._events).data) for _ in range(count)]

    def rest(self) -> list[httpx2.ServerSentEvent]:
        return list(self._events)

    def leave(self) -> None:
        self._client.close()


def joined(chunks: list[dict[str, Any]]) -> str:
    return "".join(chunk["delta"] for chunk in chunks)


def values(told: list[httpx2.ServerSentEvent]) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in told]


def metric(url: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", httpx2.get(f"{url}/metrics").text, re.M)
    return float(found[1]) if found else 0.0


def test_events_say_what_they_are(url: str) -> None:
    line = Line(url, {"inputs": {"ids": [PROMPT]}, "max_steps": 3})
    assert line.answer.headers["content-type"].startswith("text/event-stream")
    assert line.answer.headers["x-model"] == "symbols:1" and line.answer.headers["cache-control"] == "no-store"
    told = line.rest()
    assert [(event.event, event.id) for event in told] == [("Chunk", "0"), ("Chunk", "1"), ("Chunk", "2")]
    chunks = values(told)
    assert joined(chunks) == symbols.expected(PROMPT, 3)
    assert chunks[0]["finish"] == "" and chunks[2]["finish"] == "length"
    assert chunks[2]["usage"] == {"input": 6, "steps": 3}


def test_a_disconnect_cancels_within_a_step(url: str, watched: Watched) -> None:
    line = Line(url, ENDLESS)
    line.read(3)
    assert watched.states == 1 and metric(url, "maas_generation_states") == 1
    with watched.held():
        line.leave()
        wait_for(lambda: httpx2.get(f"{url}/maas/v1/generations/{line.id}").status_code == 404)
        before = len(watched.steps)
    wait_for(lambda: watched.states == 0)
    assert len(watched.steps) <= before + 1
    assert metric(url, 'maas_generations_total{outcome="cancelled"}') == 1
    assert metric(url, "maas_generation_steps_total") == len(watched.steps)


def test_a_client_that_is_killed_frees_its_state(url: str, watched: Watched) -> None:
    code = (
        "import httpx2, sys\n"
        f"with httpx2.stream('POST', {url + PATH!r}, json={ENDLESS!r}, timeout=60) as answer:\n"
        "    for event in httpx2.EventSource(answer): print(event.id, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "0\n" and watched.states == 1
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(lambda: watched.states == 0)


@pytest.mark.parametrize("more", [0, 7])
def test_a_reconnect_goes_on_after_the_last_chunk_that_came(more: int, url: str, watched: Watched) -> None:
    """Chunks that were sent and did not arrive come again; none is made again."""
    line = Line(url, {**ENDLESS, "max_steps": 60}, keep=30)
    chunks = line.read(5 + more)
    line.leave()
    assert watched.states <= 1
    again = Line(url, id=line.id, last=4)
    rest = values(again.rest())
    assert [chunk["index"] for chunk in rest] == list(range(5, 60))
    assert joined(chunks[:5] + rest) == symbols.expected(PROMPT, 60, stop=-1)
    assert len(watched.steps) == 60 + 1  # the prompt took two passes, of which one gave no chunk
    assert httpx2.head(f"{url}/maas/v1/generations/{line.id}").status_code == 200
    last = Line(url, id=line.id, last=58)
    assert [chunk["finish"] for chunk in values(last.rest())] == ["length"]
    assert joined(values(Line(url, id=line.id).rest())) == symbols.expected(PROMPT, 60, stop=-1)


def test_nothing_is_stepped_far_while_nobody_reads(url: str, watched: Watched) -> None:
    line = Line(url, ENDLESS, keep=30)
    line.read(1)
    line.leave()
    wait_for(lambda: metric(url, "maas_generation_states") == 1)
    again = Line(url, id=line.id, last=0)
    again.read(1)
    httpx2.delete(f"{url}/maas/v1/generations/{line.id}").raise_for_status()
    (*_, last) = values(again.rest())
    assert last["finish"] == "cancelled" and last["delta"] is None
    wait_for(lambda: watched.states == 0)
    assert httpx2.delete(f"{url}/maas/v1/generations/{line.id}").status_code == 204


def test_a_new_reader_takes_the_place_of_the_one_before(url: str) -> None:
    first = Line(url, ENDLESS, keep=30)
    first.read(2)
    second = Line(url, id=first.id, last=1)
    begun = second.read(1)[0]["index"]
    old = [chunk["index"] for chunk in values(first.rest())]  # it ends, wherever it was
    assert begun == 2 and old == list(range(2, 2 + len(old)))
    assert [chunk["index"] for chunk in second.read(40)] == list(range(3, 43))
    httpx2.delete(f"{url}/maas/v1/generations/{first.id}").raise_for_status()


def test_a_reconnect_too_late_is_told(url: str, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(url, ENDLESS, keep=0.2)
    line.read(2)
    line.leave()
    wait_for(lambda: watched.states == 0)
    answer = httpx2.get(f"{url}/maas/v1/generations/{line.id}", headers={"last-event-id": "1"})
    assert answer.status_code == 404 and answer.json()["kind"] == "GenerationLost"
    assert "kept no longer" in answer.json()["error"]
    monkeypatch.setattr(generation, "KEPT", 8)
    line = Line(url, ENDLESS, keep=30)
    line.read(30)
    line.leave()
    answer = httpx2.get(f"{url}/maas/v1/generations/{line.id}", headers={"last-event-id": "3"})
    assert answer.status_code == 404 and "The chunks after 3 are kept no longer" in answer.json()["error"]
    answer = httpx2.get(f"{url}/maas/v1/generations/{line.id}", headers={"last-event-id": "100000"})
    assert answer.status_code == 400 and "no chunk 100000 yet" in answer.json()["error"]
    answer = httpx2.get(f"{url}/maas/v1/generations/{line.id}", headers={"last-event-id": "x"})
    assert answer.status_code == 400
    httpx2.delete(f"{url}/maas/v1/generations/{line.id}").raise_for_status()


def test_a_slow_reader_is_waited_for(url: str, watched: Watched) -> None:
    body = json.dumps(WIDE).encode()
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        most = 64 * 2**20 // 20_000
        seen = -1
        while seen != (now := len(watched.steps)):  # it stands still, once buffers are full
            seen = now
            assert seen < most
            threading.Event().wait(0.5)
        quick = Line(url, {"inputs": [2], "parameters": {"stop": -1}, "max_steps": 50})
        assert joined(values(quick.rest())) == symbols.expected([2], 50, stop=-1)
        read = 0
        while read < 12 * 2**20:  # more than any buffer held
            read += len(connection.recv(2**16))
        assert len(watched.steps) > seen + 50
    wait_for(lambda: watched.states == 0)


def test_an_error_in_a_step_is_the_last_event(url: str) -> None:
    line = Line(url, {"inputs": [symbols.POISON, 1]}, keep=30)
    *chunks, last = line.rest()
    assert len(chunks) == 2 and last.event == "Error"
    assert "a poisoned prompt" in json.loads(last.data)["error"] and json.loads(last.data)["kind"] == "DataError"
    again = Line(url, id=line.id, last=1).rest()
    assert [event.event for event in again] == ["Error"] and again[0].data == last.data
    assert metric(url, 'maas_generations_total{outcome="error"}') == 1


def test_bodies_that_make_no_sense(url: str) -> None:
    for body, status, told in (
        (b"[1]", 400, "cannot be read"),
        (b"{}", 400, "cannot be read"),
        (b'{"inputs": [1], "max_steps": "x"}', 400, "cannot be read"),
        (b'{"inputs": [1], "max_steps": 0}', 400, "at least 1"),
        (b'{"inputs": {"ids": null}}', 400, ""),
        (b'{"inputs": null}', 400, ""),
        (b'{"inputs": {"ids": {"a": 1}}}', 400, ""),
        (b'{"inputs": "/etc/passwd"}', 400, "INT64 was expected"),
        (b'{"inputs": [1], "parameters": {"seed": -1}}', 400, "are not valid for"),
        (b'{"inputs": [99999999999999999999]}', 400, ""),
    ):
        answer = httpx2.post(f"{url}{PATH}", content=body)
        assert answer.status_code == status and told in answer.json()["error"], (body, answer.text)
    assert httpx2.post(f"{url}{PATH}?keep=100000", json=ENDLESS).status_code == 400
    assert httpx2.post(f"{url}{PATH}?keep=nan", json=ENDLESS).status_code == 400


def test_a_model_of_one_pass_takes_rows(url: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    x = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    here = LocalBackend(str(tmp_path / "store"))
    frame = {"a": x[:, 0], "b": x[:, 1]}
    here.submit(TrainRequest(name="m", data=frame | {"y": x.sum(1)}, target="y", model="linear", epochs=1)).result(600)
    arrow = {"content-type": "application/vnd.apache.arrow.stream"}
    path = f"{url}/maas/v1/models/m/generate"
    answer = httpx2.post(path, content=rows_to_bytes(pa.table(frame)), headers=arrow)
    (event,) = httpx2.EventSource(answer)
    chunk = remote_generate.decode_chunk(event.data)
    found = here.predict(PredictRequest(model="m", data=frame))
    assert chunk.finish == "stop" and chunk.delta.model == "m:1"
    np.testing.assert_allclose(chunk.delta.columns["prediction"], found.columns["prediction"], rtol=1e-5)
    assert "Arrow stream were expected" in httpx2.post(path, json={"inputs": {"a": ["x"]}}).json()["error"]
    assert "JSON was expected" in httpx2.post(f"{url}{PATH}", content=b"", headers=arrow).json()["error"]


def test_limits_of_a_service(tmp_path: Path, watched: Watched) -> None:
    with serving(tmp_path, generations=2, max_steps=30, generation_seconds=60.0) as url:
        assert [chunk["finish"] for chunk in values(Line(url, ENDLESS).rest())][-1] == "length"
        for asked, told in (({"max_steps": 31}, "max_steps 31"), ({"timeout": 61}, "timeout 61")):
            answer = httpx2.post(f"{url}{PATH}", json=ENDLESS | asked)
            assert answer.status_code == 403 and told in answer.json()["error"]
        with watched.held():
            lines = [Line(url, ENDLESS) for _ in range(2)]
            answer = httpx2.post(f"{url}{PATH}", json=ENDLESS)
            assert answer.status_code == 503 and "2 answers at a time" in answer.json()["error"]
            assert answer.headers["retry-after"] == "1"
        for line in lines:
            line.leave()
        wait_for(lambda: watched.states == 0)
        wait_for(lambda: httpx2.post(f"{url}{PATH}", json=ENDLESS).status_code == 200)
    with serving(tmp_path, generation_seconds=0.2) as url:
        told = Line(url, ENDLESS).rest()
        assert told[-1].event == "Error" and json.loads(told[-1].data)["kind"] == "GenerationEnded"


def test_the_command_line_sets_them(tmp_path: Path, watched: Watched) -> None:
    service = Service(tmp_path, "--max-steps", "7", "--max-generations", "1", "--max-generation-seconds", "50")
    ask: Any = {"headers": service.headers}
    answer = httpx2.post(f"{service.url}{PATH}", json=ENDLESS, **ask)
    assert len(list(httpx2.EventSource(answer))) == 7
    assert "50" in httpx2.post(f"{service.url}{PATH}", json=ENDLESS | {"timeout": 51}, **ask).json()["error"]
    with watched.held(), httpx2.stream("POST", f"{service.url}{PATH}", json=ENDLESS, **ask):
        assert httpx2.post(f"{service.url}{PATH}", json=ENDLESS, **ask).status_code == 503
    service.stop()


def test_who_may_ask_and_go_on(tmp_path: Path, watched: Watched) -> None:
    tokens = Tokens(None, [Token(name, digest_of(name.encode()), scopes)
                           for name, scopes in (("ann", ("predict",)), ("bob", ("predict",)), ("eve", ("train",)))])  # fmt: skip

    def bearer(name: str) -> dict[str, str]:
        return {"authorization": f"Bearer {name}"}

    with serving(tmp_path, tokens=tokens) as url:
        assert httpx2.post(f"{url}{PATH}", json=ENDLESS).status_code == 401
        assert httpx2.post(f"{url}{PATH}", json=ENDLESS, headers=bearer("eve")).status_code == 403
        with httpx2.stream("POST", f"{url}{PATH}?keep=30", json=ENDLESS, headers=bearer("ann")) as answer:
            id = answer.headers["x-generation"]
        for ask in (httpx2.get, httpx2.delete):
            assert ask(f"{url}/maas/v1/generations/{id}").status_code == 401
            assert ask(f"{url}/maas/v1/generations/{id}", headers=bearer("eve")).status_code == 403
            assert ask(f"{url}/maas/v1/generations/{id}", headers=bearer("bob")).status_code == 404
        assert httpx2.delete(f"{url}/maas/v1/generations/{id}", headers=bearer("ann")).status_code == 204
        wait_for(lambda: watched.states == 0)


def test_many_that_come_go_and_come_back_get_every_chunk_once(url: str, watched: Watched) -> None:
    wrong: list[str] = []

    def client(seed: int) -> None:
        draw = random.Random(seed)
        steps = draw.randint(1, 200)
        asked = {"inputs": [seed], "parameters": {"stop": -1, "seed": seed}, "max_steps": steps}
        line, chunks = Line(url, asked, keep=30), []
        while len(chunks) < steps:
            chunks += line.read(draw.randint(0, min(25, steps - len(chunks))))
            if draw.random() < 0.2:  # some never come back
                line.leave()
                httpx2.delete(f"{url}/maas/v1/generations/{line.id}").raise_for_status()
                return
            if draw.random() < 0.5:
                line.leave()
                line = Line(url, id=line.id, last=len(chunks) - 1 if chunks else None)
        line.leave()
        if [chunk["index"] for chunk in chunks] != list(range(steps)):
            wrong.append(f"{seed}: {chunks}")
        if joined(chunks) != symbols.expected([seed], steps, seed, -1):
            wrong.append(f"{seed}: {joined(chunks)}")

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert not wrong
    wait_for(lambda: watched.states == 0 and metric(url, "maas_generation_states") == 0)
    ended = [metric(url, f'maas_generations_total{{outcome="{how}"}}') for how in ("length", "cancelled", "error")]
    assert sum(ended) == 12 and ended[2] == 0


class Cutting:
    """A way to a service that breaks after so many bytes of each answer, until it is mended."""

    def __init__(self, url: str, after: int) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._to = host, int(port)
        self.after: int | None = after
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                here = self._listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            there = socket.create_connection(self._to)
            threading.Thread(target=self._pass, args=(here, there, None), daemon=True).start()
            threading.Thread(target=self._pass, args=(there, here, self.after), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, most: int | None) -> None:
        passed = 0
        with suppress(OSError):
            while (data := one.recv(256)) and (most is None or passed < most):
                other.sendall(data)
                passed += len(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()


def test_our_client_goes_on_where_a_connection_broke(url: str, watched: Watched) -> None:
    way = Cutting(url, 3_000)
    with remote(way.url) as backend:
        stream = backend.generate(GenerateRequest(model="symbols", data=PROMPT, params={"stop": -1}, max_steps=300))
        chunks: list[Chunk] = list(stream)
    way.close()
    assert "".join(chunk.delta for chunk in chunks) == symbols.expected(PROMPT, 300, stop=-1)
    assert [chunk.index for chunk in chunks] == list(range(300))
    assert way.connections > 3 and len(watched.steps) == 301


def test_our_client_tells_when_it_cannot_go_on(url: str, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_generate, "KEEP", 0.1)
    monkeypatch.setattr(remote_generate, "PAUSE", 1.0)
    way = Cutting(url, 3_000)
    with remote(way.url) as backend, pytest.raises((GenerationLost, MaasError), match=r"kept no longer|sends no more"):
        list(backend.generate(GenerateRequest(model="symbols", data=PROMPT, params={"stop": -1}, max_steps=300)))
    way.close()
    wait_for(lambda: watched.states == 0)


def test_a_service_that_is_stopped_says_so(tmp_path: Path, watched: Watched) -> None:
    service = Service(tmp_path)
    with remote(service.url, service.token) as backend:
        stream = backend.generate(GenerateRequest(model="symbols", data=PROMPT, params={"stop": -1}))
        assert next(stream).index == 0
        os.kill(service.process.pid, signal.SIGTERM)
        with pytest.raises(GenerationEnded, match="The service has ended"):
            for _ in stream:
                pass
    service.stop()
    assert service.process.returncode in (0, -signal.SIGTERM) and watched.states == 0


def test_a_service_that_is_killed_is_told(tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_generate, "KEEP", 0.5)
    service = Service(tmp_path)
    with remote(service.url, service.token) as backend:
        stream = backend.generate(GenerateRequest(model="symbols", data=PROMPT, params={"stop": -1}))
        next(stream)
        service.kill()
        with pytest.raises(MaasError, match=r"does not answer|sends no more"):
            for _ in stream:
                pass
    service.stop()
    (watched.folder / "states").unlink()
