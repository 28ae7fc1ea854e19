"""Servers of other makes that write: each text arrives as it is written, by the generate extension of the protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import numpy as np
import pytest

from maas_magics.api.errors import DataError, MaasError, OptionError, ServiceError
from maas_magics.api.requests import GenerateRequest
from maas_magics.remote.client import Client
from maas_magics.remote.inference import InferenceBackend

WORDS = ["Once", " upon", " a", " time", " há"]


class Handler(BaseHTTPRequestHandler):
    """Answers as Triton does: a model ``writer`` that streams, and ``plain``, which does not."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[Any]] = []
    go = threading.Event()
    gone = threading.Event()

    def log_message(self, *args: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        inputs = [{"name": "text_input" if "writer" in self.path else "x", "datatype": "BYTES", "shape": [1]}]
        told = {"name": "m", "versions": ["1"], "platform": "vllm", "inputs": inputs, "outputs": []}
        self._json(200, told if "/models/" in self.path else {"name": "triton", "version": "2", "extensions": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        Handler.asked.append((self.path, body))
        if self.path.endswith("/infer"):
            output = {"name": "y", "shape": [1], "datatype": "FP32", "data": [2.0]}
            self._json(200, {"model_name": "plain", "model_version": "1", "outputs": [output]})
        elif "writer" not in self.path:
            self._json(404, {"error": "not found"})
        elif not body["text_input"]:
            self._json(400, {"error": "text_input is empty"})
        else:
            self._stream(body["text_input"])

    def _json(self, status: int, told: Any) -> None:
        data = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, text: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        try:
            for number, word in enumerate(WORDS if text != "endless" else WORDS * 100_000):
                if text == "slowly" and number == 1:
                    assert Handler.go.wait(60)
                if text == "fails" and number == 2:
                    self._event({"error": "out of blocks"})
                    return
                self._event({"model_name": "writer", "model_version": "1", "text_output": word})
                if text == "breaks" and number == 1:
                    return
            if text == "long":
                self._event({"text_output": "", "finish_reason": "length"})
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            Handler.gone.set()

    def _event(self, told: Any) -> None:
        data = b"data: " + json.dumps(told).encode() + b"\n\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


@pytest.fixture
def backend() -> Iterator[InferenceBackend]:
    Handler.asked, Handler.go, Handler.gone = [], threading.Event(), threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made = InferenceBackend(Client(f"http://127.0.0.1:{server.server_address[1]}", lambda: ""))
    yield made
    made.close()
    server.shutdown()
    server.server_close()
    thread.join()


def test_each_text_arrives_before_the_next_is_written(backend: InferenceBackend) -> None:
    stream = backend.generate(GenerateRequest(model="writer", data="slowly", params={"temperature": 0.5}))
    first = next(stream)
    assert (first.index, first.delta, first.finish) == (0, "Once", "")
    Handler.go.set()
    rest = list(stream)
    assert [chunk.delta for chunk in rest] == [*WORDS[1:], None] and rest[-1].finish == "stop"
    assert Handler.asked == [
        ("/v2/models/writer/generate_stream", {"text_input": "slowly", "parameters": {"temperature": 0.5}})
    ]


def test_why_an_answer_ended_is_said(backend: InferenceBackend) -> None:
    long = list(backend.generate(GenerateRequest(model="writer", data={"text_input": "long"})))
    assert long[-1].finish == "length" and "".join(chunk.delta or "" for chunk in long) == "".join(WORDS)
    cut = list(backend.generate(GenerateRequest(model="writer:1", data="x", max_steps=2)))
    assert [chunk.delta for chunk in cut] == [*WORDS[:2], None] and cut[-1].finish == "length"
    assert Handler.asked[-1][0] == "/v2/models/writer/versions/1/generate_stream"


def test_errors_come_after_what_was_written(backend: InferenceBackend) -> None:
    for text, error, said in (
        ("fails", DataError, "out of blocks"),
        ("breaks", ServiceError, "broke off"),
    ):
        stream = backend.generate(GenerateRequest(model="writer", data=text))
        assert [next(stream).delta, next(stream).delta] == WORDS[:2]
        with pytest.raises(error, match=said):
            list(stream)
    with pytest.raises(MaasError, match="text_input is empty"):
        backend.generate(GenerateRequest(model="writer", data=""))
    with pytest.raises(OptionError, match="max_steps is 0"):
        backend.generate(GenerateRequest(model="writer", data="x", max_steps=0))


def test_a_reader_that_leaves_ends_the_answer(backend: InferenceBackend) -> None:
    stream = backend.generate(GenerateRequest(model="writer", data="endless"))
    next(stream)
    stream.close()
    assert Handler.gone.wait(60)


def test_a_model_that_streams_nothing_answers_in_one_chunk(backend: InferenceBackend) -> None:
    (chunk,) = backend.generate(GenerateRequest(model="plain", data={"x": np.array(["a"], dtype=object)}))
    assert chunk.finish == "stop" and chunk.delta.columns["prediction"].tolist() == [2.0]
    assert [path for path, _ in Handler.asked] == ["/v2/models/plain/infer"]
    with pytest.raises(OptionError, match="answers in one pass"):
        backend.generate(GenerateRequest(model="plain", data="a", params={"temperature": 1.0}))
    assert Handler.asked[-1][0] == "/v2/models/plain/generate_stream"
