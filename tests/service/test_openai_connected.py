"""Any server of OpenAI's API, asked from the same cells: a service of our own, and a server of another make."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from serving import Service

from maas_magics.api.errors import DataError, NotFound, OptionError, Refused, ServiceError
from maas_magics.api.requests import GenerateRequest, PredictRequest, TrainRequest
from maas_magics.local.backend import LocalBackend
from maas_magics.remote.client import Client
from maas_magics.remote.openai import OpenAIBackend, with_path
from maas_magics.session import Session

TEXTS = [f"{one} and {two} went up {n} hills." for one in ("Jack", "Tom") for two in ("Sue", "Kim") for n in range(9)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store holds ``verses``, which writes."""
    folder = tmp_path_factory.mktemp("connected")
    torch.set_num_threads(1)
    request = TrainRequest(
        name="verses", data=TEXTS, task="language", model="gpt", epochs=4, params={"block": 64, "width": 32}
    )
    LocalBackend(str(folder / "store")).submit(request).result(600)
    return folder


@pytest.fixture(scope="module")
def service(store: Path) -> Iterator[Service]:
    made = Service(store)
    yield made
    made.stop()


@pytest.fixture
def session(service: Service, tmp_path: Path) -> Iterator[Session]:
    """A session that is connected to it as to any server of OpenAI's API."""
    made = Session(str(tmp_path / "other"))
    token = tmp_path / "token"
    token.write_text(service.token)
    token.chmod(0o600)
    made.connect(f"openai+{service.url}/v1", token_file=str(token))
    yield made
    made.backend.close()


@pytest.fixture
def here(store: Path) -> Session:
    return Session(str(store / "store"))


def said(session: Session, data: Any, tokens: int | None = 6, **params: Any) -> str:
    stream = session.generate(GenerateRequest(model="verses", data=data, params=params, max_steps=tokens))
    return "".join(chunk.delta for chunk in stream if chunk.delta)


def test_the_same_cells_get_the_same_answers_as_in_the_kernel(session: Session, here: Session) -> None:
    assert session.where().endswith("/v1.")
    (info,) = session.backend.models.list()
    assert info.name == "verses" and info.architecture == "maas_magics" and info.iterative
    assert session.backend.models.get("verses:1").name == "verses:1" and session.model_names() == ["verses"]
    assert said(session, "Tom and") == said(here, "Tom and") != ""
    assert said(session, {"prompt": "Tom and"}, temperature=1.0, seed=3) == said(
        here, "Tom and", temperature=1.0, seed=3
    )
    talk = {"messages": [{"role": "user", "content": "Tom and"}]}
    assert said(session, talk) == said(here, talk)
    last = list(session.generate(GenerateRequest(model="verses", data="Tom and", max_steps=3)))[-1]
    assert last.finish == "length"


def test_rows_of_a_column_are_answered_in_their_order(session: Session, here: Session) -> None:
    frame = pd.DataFrame({"n": range(30), "start": [text[:9] for text in TEXTS[:30]]})
    asked: dict[str, Any] = {"model": "verses", "column": "start", "max_tokens": 5, "temperature": 0.8, "seed": 4}
    wanted = here.predict(PredictRequest(data=frame, **asked))
    found = session.predict(PredictRequest(data=frame, **asked))
    pd.testing.assert_frame_equal(found, wanted)
    one = session.predict(PredictRequest(model="verses", data="Tom and", max_tokens=5))
    assert one["prediction"][0] == said(here, "Tom and", 5)
    talks = pd.DataFrame({"messages": [[{"role": "user", "content": text}] for text in TEXTS[:3]]})
    request = PredictRequest(model="verses", data=talks, max_tokens=3)
    pd.testing.assert_frame_equal(session.predict(request), here.predict(request))
    job = session.backend.submit(PredictRequest(data=frame, **asked))
    assert len(job.result(600).columns["prediction"]) == 30


def test_answers_keep_to_a_form(session: Session, here: Session) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    assert json.loads(said(session, "Tom", 40, json=schema)) in ({"n": 1}, {"n": 2})
    assert said(session, "Tom", 40, choice=["yes", "no, never"]) in ("yes", "no, never")
    assert said(session, "Tom", 40, regex="[0-9]{3}").isdecimal()
    talk = {"messages": [{"role": "user", "content": "Tom"}]}
    assert json.loads(said(session, talk, 40, json=json.dumps(schema)))["n"] in (1, 2)


@pytest.mark.parametrize(
    ("asked", "kind", "why"),
    [
        ({"model": "nobody", "data": "a"}, NotFound, "no model 'nobody'"),
        ({"model": "verses", "data": "a", "params": {"temperature": 101}}, OptionError, "temperature is 101"),
        ({"model": "verses", "data": "a", "params": {"tempratur": 1}}, OptionError, "no parameter 'tempratur'"),
        ({"model": "verses", "data": "a", "params": {"json": True, "regex": "a"}}, OptionError, "one form"),
        ({"model": "verses", "data": "a", "params": {"json": "{"}}, OptionError, "not a schema"),
        ({"model": "verses", "data": 3}, DataError, "A text, or the messages"),
        ({"model": "verses", "data": {"messages": "a"}}, DataError, "list of messages"),
        ({"model": "verses", "data": {"messages": []}}, OptionError, "no messages"),
        ({"model": "verses", "data": "a", "max_steps": 0}, OptionError, "max_steps is 0"),
    ],
)
def test_what_cannot_be_answered_is_told(
    asked: dict[str, Any], kind: type[Exception], why: str, session: Session
) -> None:
    with pytest.raises(kind, match=why):
        list(session.generate(GenerateRequest(**asked)))


def test_what_such_a_server_does_not_do_is_told(session: Session, service: Service) -> None:
    backend = session.backend
    for act, why in (
        (lambda: backend.submit(TrainRequest(name="a", data=TEXTS)), "does not train"),
        (lambda: backend.infer("verses", {"x": np.zeros(1)}), "takes no tensors"),
        (lambda: backend.load("verses"), "loads no models"),
        (lambda: backend.models.delete("verses"), "removes no models"),
    ):
        with pytest.raises(Refused, match=f"A server of OpenAI's API {why}"):
            act()
    for options, why in (({"top": 2}, "no labels"), ({"max_tokens": 0}, "max_tokens is 0")):
        with pytest.raises(OptionError, match=why):
            backend.predict(PredictRequest(model="verses", data=pd.DataFrame({"prompt": ["a"]}), **options))
    with pytest.raises(DataError, match="no column 'nowhere'"):
        backend.predict(PredictRequest(model="verses", data=pd.DataFrame({"prompt": ["a"]}), column="nowhere"))
    with pytest.raises(Refused, match="token is not known"):
        OpenAIBackend(Client(f"{service.url}/v1", lambda: "wrong"))
    with pytest.raises(ServiceError, match="not a server of OpenAI's API"):
        OpenAIBackend(Client(f"{service.url}/v2", lambda: service.token))
    assert with_path("http://127.0.0.1:1") == "http://127.0.0.1:1/v1" and with_path("http://a/b") == "http://a/b"


class Handler(BaseHTTPRequestHandler):
    """Answers as other servers do: ``talker`` knows conversations alone, ``llama`` is one of llama.cpp."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[Any]] = []
    gone = threading.Event()

    def log_message(self, *args: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        owners = {"talker": "somebody", "llama": "llamacpp", "vllm": "vllm", "org/m:8b": None}
        if self.path == "/v1/models":
            self._json(200, {"object": "list", "data": [{"id": name, "owned_by": who} for name, who in owners.items()]})
        else:
            self._json(404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        Handler.asked.append((self.path, body))
        chat = self.path == "/v1/chat/completions"
        if not chat and body["model"] == "talker":
            told = {"message": "This is not a model of completions.", "type": "invalid_request_error"}
            self._json(404, {"error": told})
            return
        if not chat and body["prompt"] == "at once":
            self._json(200, {"choices": [{"index": 0, "text": "all of it", "finish_reason": "length"}]})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        text = body["messages"][-1]["content"] if chat else body["prompt"]
        if text == "says no why":
            self._event({"choices": [{"index": 0, "text": "so", "finish_reason": None}]})
            self._raw(b"data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
            return
        try:
            for word in ("Once", " há", None) if text != "endless" else iter(lambda: "word ", ""):
                said = {"delta": {"content": word} if word else {}} if chat else {"text": word or ""}
                choice = {"index": 0, **said, "finish_reason": None if word else "stop"}
                if text == "breaks" and word is None:
                    return
                if text == "fails" and word is None:
                    self._event({"error": {"message": "out of blocks", "type": "server_error"}})
                    break
                self._event(
                    {"choices": [choice], **({} if word else {"usage": {"prompt_tokens": 3, "completion_tokens": 2}})}
                )
            self._raw(b"data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            Handler.gone.set()

    def _json(self, status: int, told: Any) -> None:
        data = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _event(self, told: Any) -> None:
        self._raw(b"data: " + json.dumps(told).encode() + b"\n\n")

    def _raw(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


@pytest.fixture
def other() -> Iterator[OpenAIBackend]:
    Handler.asked, Handler.gone = [], threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made = OpenAIBackend(Client(f"http://127.0.0.1:{server.server_address[1]}/v1", lambda: ""))
    yield made
    made.close()
    server.shutdown()
    server.server_close()
    thread.join()


def written(backend: OpenAIBackend, model: str, data: Any, **params: Any) -> str:
    stream = backend.generate(GenerateRequest(model=model, data=data, params=params))
    return "".join(chunk.delta for chunk in stream if chunk.delta)


def test_a_text_is_a_message_where_a_model_takes_conversations_alone(other: OpenAIBackend) -> None:
    assert written(other, "talker", "hi", stop=["x"], seed=1) == "Once há"
    path, body = Handler.asked[-1]
    assert path == "/v1/chat/completions" and "max_tokens" not in body
    assert body["messages"] == [{"role": "user", "content": "hi"}] and body["temperature"] == 0 and body["seed"] == 1
    chunks = list(other.generate(GenerateRequest(model="llama", data="hi", max_steps=5)))
    assert Handler.asked[-1][0] == "/v1/completions" and Handler.asked[-1][1]["max_tokens"] == 5
    assert chunks[-1].finish == "stop" and chunks[-1].usage is not None and chunks[-1].usage.steps == 2
    for text, said, finish in (("at once", "all of it", "length"), ("says no why", "so", "stop")):
        chunks = list(other.generate(GenerateRequest(model="llama", data=text)))
        assert ([chunk.delta for chunk in chunks], chunks[-1].finish) == ([said, None], finish)
    with pytest.raises(NotFound, match="no model 'llam'"):
        other.models.get("llam")


def test_names_may_have_slashes_and_colons(other: OpenAIBackend) -> None:
    info = other.models.get("org/m:8b")
    assert info.name == "org/m:8b" and info.created == 0 and other.models.get(info.ref) == info
    assert written(other, info.name, "hi") == "Once há" and Handler.asked[-1][1]["model"] == "org/m:8b"
    rows = PredictRequest(model=info.name, data=pd.DataFrame({"prompt": ["a", "b"]}))
    assert other.predict(rows).columns["prediction"].tolist() == ["Once há"] * 2


def test_a_form_is_said_in_the_words_of_the_server_or_refused(other: OpenAIBackend) -> None:
    schema = {"type": "object"}
    for model, form, told, name, wanted in (
        ("talker", "json", True, "response_format", {"type": "json_object"}),
        ("talker", "json", schema, "response_format", {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}),
        ("llama", "json", schema, "json_schema", schema),
        ("llama", "choice", ['a"b', "c"], "grammar", r'root ::= "a\"b" | "c"'),
        ("vllm", "regex", "a+", "structured_outputs", {"regex": "a+"}),
        ("vllm", "regex", "a+", "guided_regex", "a+"),
    ):  # fmt: skip
        written(other, model, "hi", **{form: told})
        assert Handler.asked[-1][1][name] == wanted
    before = len(Handler.asked)
    for model, form in (("talker", "choice"), ("talker", "regex"), ("llama", "regex")):
        with pytest.raises(OptionError, match=f"no way to ask for {form}"):
            written(other, model, "hi", **{form: ["a"] if form == "choice" else "a"})
    assert len(Handler.asked) == before


@pytest.mark.parametrize(("text", "why"), [("breaks", "broke off"), ("fails", "out of blocks")])
def test_errors_come_after_what_was_written(text: str, why: str, other: OpenAIBackend) -> None:
    found: list[str] = []
    with pytest.raises(ServiceError, match=why):  # noqa: PT012
        for chunk in other.generate(GenerateRequest(model="llama", data=text)):
            found.append(chunk.delta)
    assert found == ["Once", " há"]


def test_a_reader_that_leaves_ends_the_answer(other: OpenAIBackend) -> None:
    stream = other.generate(GenerateRequest(model="llama", data="endless"))
    assert next(stream).delta == "word "
    stream.close()
    assert Handler.gone.wait(60)
    with pytest.raises(ServiceError, match="took longer than 0.001 s"):
        list(other.generate(GenerateRequest(model="llama", data="endless", timeout=0.001)))
