"""The service as clients of OpenAI's API see it: its official client, and plain HTTP."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pandas as pd
import pytest
import torch
from openai import AsyncOpenAI, OpenAI
from serving import Address, Service, in_thread, remote, wait_for

from maas_magics.api.requests import GenerateRequest, PredictRequest, TrainRequest
from maas_magics.core.runtimes.text.session import TextSession
from maas_magics.local.backend import LocalBackend
from maas_magics.service.settings import Settings
from maas_magics.service.tokens import Token, Tokens, digest_of

SENTENCES = [
    f"{one} and {two} went up the hill to fetch {pails} pails of water."
    for one in ("Jack", "Jill", "Tom", "Ann")
    for two in ("Sue", "Bob", "Kim")
    for pails in range(8)
]
PROMPTS = [f"{sentence[:20]}" for sentence in SENTENCES[::7]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store holds ``verses``, which writes; ``near``, which makes vectors; ``labels``, which does neither."""
    folder = tmp_path_factory.mktemp("openai")
    torch.set_num_threads(1)
    backend = LocalBackend(str(folder / "store"))
    frame = pd.DataFrame({"text": SENTENCES})
    backend.submit(
        TrainRequest(
            name="verses", data=frame, task="language", model="gpt", epochs=8, params={"block": 64, "width": 64}
        )
    ).result(600)
    pairs = pd.DataFrame({"a": SENTENCES, "b": [text.upper() for text in SENTENCES]})
    backend.submit(
        TrainRequest(name="near", data=pairs, task="embedding", pairs=("a", "b"), model="textcnn", epochs=1)
    ).result(600)
    table = pd.DataFrame({"x": np.arange(40.0), "y": ["p", "q"] * 20})
    backend.submit(TrainRequest(name="labels", data=table, target="y", model="linear", epochs=1)).result(600)
    return folder


@pytest.fixture(scope="module")
def backend(store: Path) -> LocalBackend:
    return LocalBackend(str(store / "store"))


@pytest.fixture(scope="module")
def service(store: Path) -> Iterator[Service]:
    made = Service(store)
    yield made
    made.stop()


@pytest.fixture
def client(service: Service) -> OpenAI:
    return OpenAI(base_url=f"{service.url}/v1", api_key=service.token, max_retries=0)


def said(backend: LocalBackend, prompt: Any, tokens: int, **params: Any) -> str:
    """What the kernel writes."""
    request = GenerateRequest(model="verses", data=prompt, params=params, max_steps=tokens)
    return "".join(chunk.delta for chunk in backend.generate(request) if chunk.delta)


def test_models_that_write_or_make_vectors_are_listed(client: OpenAI) -> None:
    found = {model.id: model for model in client.models.list()}
    assert set(found) == {"verses", "near"} and found["verses"].owned_by == "maas_magics"
    assert client.models.retrieve("verses").id == "verses"
    assert client.models.retrieve("verses:1").created == found["verses"].created


def test_a_text_is_continued_as_the_kernel_does(client: OpenAI, backend: LocalBackend) -> None:
    wanted = said(backend, "Tom and", 6)
    for _ in range(2):
        whole = client.completions.create(model="verses", prompt="Tom and", max_tokens=6, temperature=0)
        assert whole.choices[0].text == wanted and whole.choices[0].finish_reason == "length"
        assert whole.usage is not None and whole.usage.completion_tokens == 6 and whole.object == "text_completion"
        parts = client.completions.create(model="verses", prompt="Tom and", max_tokens=6, temperature=0, stream=True)
        assert "".join(part.choices[0].text for part in parts) == wanted
    echoed = client.completions.create(model="verses", prompt="Tom and", max_tokens=6, temperature=0, echo=True)
    assert echoed.choices[0].text == "Tom and" + wanted
    usual = client.completions.create(model="verses", prompt="Tom and", seed=1)
    assert usual.usage is not None and usual.usage.completion_tokens <= 16


def test_several_prompts_get_several_answers_each(client: OpenAI, backend: LocalBackend) -> None:
    asked: dict[str, Any] = {"max_tokens": 5, "temperature": 1.0, "seed": 3, "n": 2}
    found = client.completions.create(model="verses", prompt=PROMPTS[:2], **asked)
    wanted = [said(backend, one, 5, temperature=1.0, seed=seed) for one in PROMPTS[:2] for seed in (3, 4)]
    assert [choice.text for choice in found.choices] == wanted
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    streamed = ["", "", "", ""]
    for part in client.completions.create(model="verses", prompt=PROMPTS[:2], stream=True, **asked):
        streamed[part.choices[0].index] += part.choices[0].text
    assert streamed == wanted


def test_a_conversation_is_answered_whole_and_as_it_comes(client: OpenAI, backend: LocalBackend) -> None:
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "Ann and"}]}]
    wanted = said(backend, "Ann and", 5)
    found = client.chat.completions.create(model="verses", messages=messages, max_completion_tokens=5, temperature=0)
    assert found.choices[0].message.content == wanted and found.choices[0].message.role == "assistant"
    parts = list(
        client.chat.completions.create(
            model="verses", messages=messages, max_tokens=5, temperature=0, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    assert parts[0].choices[0].delta.role == "assistant" and not parts[-1].choices
    assert "".join(part.choices[0].delta.content or "" for part in parts[:-1]) == wanted
    assert parts[-2].choices[0].finish_reason == "length"
    assert parts[-1].usage is not None and parts[-1].usage.completion_tokens == 5


def test_an_answer_ends_before_its_stop(client: OpenAI, backend: LocalBackend) -> None:
    whole = said(backend, "Jill and Bob went up", 40)
    assert " of" in whole
    found = client.completions.create(
        model="verses", prompt="Jill and Bob went up", max_tokens=40, temperature=0, stop=[" of"]
    )
    assert found.choices[0].text == whole.partition(" of")[0] and found.choices[0].finish_reason == "stop"


SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Jack", "Jill"]}, "pails": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "pails"],
    "additionalProperties": False,
}


def test_answers_keep_to_a_schema_a_choice_or_an_expression(client: OpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "pails", "schema": SCHEMA}}
    for seed in range(3):
        found = client.chat.completions.create(
            model="verses", messages=[{"role": "user", "content": "Tom and"}], response_format=form, seed=seed,
            max_tokens=55,
        )  # fmt: skip
        told = json.loads(found.choices[0].message.content or "")
        assert told["name"] in ("Jack", "Jill") and 0 <= told["pails"] <= 99 and set(told) == {"name", "pails"}
        assert found.choices[0].finish_reason == "stop"
        for extra, fits in (
            ({"guided_choice": ["yes", "no, never"]}, lambda text: text in ("yes", "no, never")),
            ({"guided_regex": "[0-9]{3}"}, lambda text: len(text) == 3 and text.isdecimal()),
        ):
            said = client.completions.create(model="verses", prompt="Tom", seed=seed, max_tokens=20, extra_body=extra)
            assert fits(said.choices[0].text), said


def test_logprobs_are_those_of_the_tokens_that_came(client: OpenAI, backend: LocalBackend) -> None:
    asked: dict[str, Any] = {"model": "verses", "prompt": "Tom and", "max_tokens": 4, "temperature": 0}
    found = client.completions.create(logprobs=3, **asked).choices[0]
    assert found.logprobs is not None and found.logprobs.token_logprobs is not None
    assert "".join(found.logprobs.tokens or []) == found.text == said(backend, "Tom and", 4)
    for token, logprob, top in zip(
        found.logprobs.tokens or [], found.logprobs.token_logprobs, found.logprobs.top_logprobs or [], strict=True
    ):
        assert max(top, key=lambda one: top[one]) == token and top[token] == logprob <= 0 and len(top) <= 3
        assert sum(np.exp(list(top.values()))) <= 1 + 1e-6
    parts = list(client.completions.create(logprobs=3, stream=True, **asked))
    streamed = [one for part in parts for one in (part.choices[0].logprobs.tokens or [])]  # type: ignore[union-attr]
    assert streamed == found.logprobs.tokens
    places = [one for part in parts for one in (part.choices[0].logprobs.text_offset or [])]  # type: ignore[union-attr]
    assert places == found.logprobs.text_offset == [len("".join(streamed[:n])) for n in range(4)]
    chat = client.chat.completions.create(
        model="verses", messages=[{"role": "user", "content": "Tom and"}], logprobs=True, top_logprobs=2, max_tokens=4,
        temperature=0,
    )  # fmt: skip
    told = chat.choices[0].logprobs
    assert told is not None and told.content is not None
    assert [one.logprob for one in told.content] == found.logprobs.token_logprobs
    assert all(len(one.top_logprobs) == 2 and bytes(one.bytes or []).decode() == one.token for one in told.content)


def test_vectors_are_those_of_the_kernel(client: OpenAI, backend: LocalBackend) -> None:
    columns = backend.predict(PredictRequest(model="near", data=pd.DataFrame({"a": PROMPTS[:3]}))).columns
    wanted = np.asarray(next(iter(columns.values())))
    for form in ("float", "base64", openai.omit):
        found = client.embeddings.create(model="near", input=PROMPTS[:3], encoding_format=form)  # type: ignore[arg-type]
        made = np.array([np.frombuffer(one.embedding, "<f4") if isinstance(one.embedding, bytes) else one.embedding
                         if not isinstance(one.embedding, str) else [] for one in found.data])  # fmt: skip
        if form == "base64":
            import base64

            made = np.array([np.frombuffer(base64.b64decode(str(one.embedding)), "<f4") for one in found.data])
        np.testing.assert_allclose(made, wanted, atol=1e-5)
    assert [one.index for one in found.data] == [0, 1, 2]


@pytest.mark.parametrize(
    ("path", "body", "status", "why"),
    [
        ("completions", {"model": "nowhere", "prompt": "a"}, 404, "no model 'nowhere'"),
        ("completions", {"model": "labels", "prompt": "a"}, 400, "writes no text"),
        ("completions", {"model": "verses"}, 400, "prompt"),
        ("completions", {"model": "verses", "prompt": [1, 2]}, 400, "ids of tokens"),
        ("completions", {"model": "verses", "prompt": []}, 400, "0 texts"),
        ("completions", {"model": "verses", "prompt": "a" * 9_000}, 400, "reads 63 at most"),
        ("completions", {"model": "verses", "prompt": "a", "temperature": 101}, 400, "temperature is 101"),
        ("completions", {"model": "verses", "prompt": "a", "max_tokens": 0}, 400, "max_tokens is 0"),
        ("completions", {"model": "verses", "prompt": "a", "max_tokens": 10**9}, 403, "more than this service takes"),
        ("completions", {"model": "verses", "prompt": "a", "n": 99}, 400, "n is 99"),
        ("completions", {"model": "verses", "prompt": "a", "stop": ["x"] * 10_000}, 400, "10,000 were given"),
        ("completions", {"model": "verses", "prompt": "a", "logit_bias": {"-1": 1}}, 400, "logit_bias"),
        ("completions", {"model": "verses", "prompt": "a", "suffix": "b"}, 400, "suffix"),
        ("completions", {"model": "verses", "prompt": "a", "echo": True, "logprobs": 1}, 400, "echo"),
        ("chat/completions", {"model": "verses", "messages": []}, 400, "no messages"),
        ("chat/completions", {"model": "verses", "messages": [{"content": "a"}]}, 400, "no role"),
        ("chat/completions", {"model": "verses", "messages": "a"}, 400, "messages"),
        ("chat/completions", {"model": "verses", "messages": [{"role": "user", "content": "a"}],
                              "response_format": {"type": "json_schema"}}, 400, "response_format has no schema"),
        ("chat/completions", {"model": "verses", "messages": [{"role": "user", "content": "a"}],
                              "response_format": {"type": "xml"}}, 400, "'xml' is not known"),
        ("chat/completions", {"model": "verses", "messages": [{"role": "user", "content": "a"}], "response_format":
                              {"type": "json_schema", "json_schema": {"schema": None}}}, 400, "has no schema"),
        ("chat/completions", {"model": "verses", "messages": [{"role": "user", "content": "a"}], "response_format":
                              {"type": "json_schema", "json_schema": {"schema": {"type": "no"}}}}, 400, "not valid"),
        ("completions", {"model": "verses", "prompt": "a", "guided_regex": "("}, 400, "regex=… is not valid"),
        ("completions", {"model": "verses", "prompt": "a", "guided_choice": []}, 400, "list of texts"),
        ("completions", {"model": "verses", "prompt": "a", "logprobs": 99}, 400, "logprobs is 99"),
        ("embeddings", {"model": "verses", "input": "a"}, 400, "makes no vectors"),
        ("embeddings", {"model": "near", "input": []}, 400, "input"),
        ("embeddings", {"model": "near", "input": "a", "dimensions": 3}, 400, "dimensions"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_an_error_in_their_form(
    path: str, body: dict[str, Any], status: int, why: str, service: Service
) -> None:
    head = {"authorization": f"Bearer {service.token}"}
    found = httpx2.post(f"{service.url}/v1/{path}", json=body, headers=head, timeout=600)
    told = found.json()
    assert found.status_code == status and set(told) == {"error"}
    streamed = httpx2.post(f"{service.url}/v1/{path}", json={**body, "stream": True}, headers=head, timeout=600)
    assert (streamed.status_code, streamed.json()) == (
        status,
        told,
    )  # before there is anything to send, it has a status
    assert set(told["error"]) == {"message", "type", "param", "code"} and why in told["error"]["message"]
    broken = httpx2.post(f"{service.url}/v1/{path}", content=b"{", headers=head, timeout=600)
    assert broken.status_code == 400 and "cannot be read" in broken.json()["error"]["message"]


def test_the_official_client_raises_its_own_errors(service: Service, client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no model 'nowhere'"):
        client.completions.create(model="nowhere", prompt="a")
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.completions.create(model="verses", prompt="a", temperature=-3)
    stranger = OpenAI(base_url=f"{service.url}/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError, match="not known"):
        stranger.models.list()
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="verses", input="a")


def test_a_token_of_scope_predict_is_enough_and_one_of_another_is_not(backend: LocalBackend) -> None:
    known = [Token("asks", digest_of(b"asks"), ("predict",)), Token("trains", digest_of(b"trains"), ("train",))]
    with in_thread(backend, Settings(tokens=Tokens(None, known))) as url:
        asks, trains = (OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) for key in ("asks", "trains"))
        assert asks.completions.create(model="verses", prompt="Tom", max_tokens=2).choices
        with pytest.raises(openai.PermissionDeniedError, match="lacks the scope 'predict'"):
            trains.completions.create(model="verses", prompt="Tom", max_tokens=2)


def test_clients_that_come_leave_and_cancel_get_their_own_answers(service: Service, backend: LocalBackend) -> None:
    wanted = {prompt: said(backend, prompt, 12) for prompt in PROMPTS}

    async def one(client: AsyncOpenAI, draw: random.Random) -> None:
        for _ in range(3):
            prompt = draw.choice(PROMPTS)
            asked: dict[str, Any] = {"model": "verses", "prompt": prompt, "max_tokens": 12, "temperature": 0}
            way = draw.choice(("whole", "left", "cut", "choice"))
            if way == "left":
                stream = await client.completions.create(stream=True, **asked)
                async for _part in stream:
                    break
                await stream.close()
            elif way == "cut":
                with suppress(TimeoutError):
                    await asyncio.wait_for(client.completions.create(**asked), draw.uniform(0, 0.2))
            elif way == "choice":
                form = {"guided_choice": ["yes, of course", "no"]}
                told = await client.completions.create(extra_body=form, **{**asked, "max_tokens": 60})
                assert told.choices[0].text in form["guided_choice"]
            else:
                found = await client.completions.create(**asked)
                assert found.choices[0].text == wanted[prompt]

    async def all_of_them() -> None:
        async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key=service.token, max_retries=20) as client:
            await asyncio.gather(*(one(client, random.Random(seed)) for seed in range(64)))

    asyncio.run(all_of_them())
    head = {"authorization": f"Bearer {service.token}"}

    def idle() -> bool:
        told = httpx2.get(f"{service.url}/metrics", headers=head).text
        return "maas_generation_states 0.0" in told and "maas_generation_waiting 0.0" in told

    wait_for(idle)


def test_a_client_that_goes_frees_its_place(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    with in_thread(backend, Settings(generations=1)) as url:
        # Whole answers too: an answer that would take for ever is left.
        monkeypatch.setattr(TextSession, "step", lambda self, states: (time.sleep(0.01), [None for _ in states])[1])
        body = {"model": "verses", "prompt": "Tom", "max_tokens": 60}
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{url}/v1/completions", json=body, timeout=0.5)
        wait_for(lambda: not backend.generating()["states"])
        monkeypatch.undo()
        wait_for(lambda: _answers(url))
        asked = {"model": "verses", "prompt": "Tom", "max_tokens": 60, "temperature": 1, "stream": True, "n": 1}
        for _ in range(3):
            with suppress(httpx2.HTTPError), httpx2.stream("POST", f"{url}/v1/completions", json=asked) as answer:
                next(answer.iter_raw(1))
            wait_for(lambda: _answers(url))


def _answers(url: Address | str) -> bool:
    asked = {"model": "verses", "prompt": "Tom", "max_tokens": 1}
    return httpx2.post(f"{url}/v1/completions", json=asked, timeout=600).status_code == 200


def test_more_answers_than_there_are_places_are_refused_and_none_is_kept(backend: LocalBackend) -> None:
    with in_thread(backend, Settings(generations=2)) as url:
        asked = {"model": "verses", "prompt": "Tom", "max_tokens": 2, "n": 3}
        found = httpx2.post(f"{url}/v1/completions", json=asked, timeout=600)
        assert found.status_code == 503 and found.json()["error"]["type"] == "overloaded_error"
        for _ in range(4):
            assert httpx2.post(f"{url}/v1/completions", json={**asked, "n": 2}, timeout=600).status_code == 200


def test_prompts_and_answers_are_in_no_log(backend: LocalBackend, tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    with in_thread(backend, Settings(access_log=str(file))) as url:
        client = OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
        answer = client.completions.create(model="verses", prompt="Jack and Sue went", max_tokens=9, temperature=0)
    told = file.read_text()
    assert [json.loads(line)["path"] for line in told.splitlines()] == ["/v1/completions"]
    assert "Jack" not in told and answer.choices[0].text.strip() not in told


def test_the_same_cells_ask_a_service(service: Service, backend: LocalBackend) -> None:
    with remote(service.url, service.token) as there:
        chunks = list(there.generate(GenerateRequest(model="verses", data="Tom and", max_steps=6)))
        assert "".join(chunk.delta for chunk in chunks if chunk.delta) == said(backend, "Tom and", 6)
        request = PredictRequest(
            model="verses", data=pd.DataFrame({"text": PROMPTS}), max_tokens=7, temperature=1.0, seed=2, stop=("hill",)
        )
        here, away = backend.predict(request), there.predict(request)
        assert list(here.columns["prediction"]) == list(away.columns["prediction"])


def test_a_service_learns_a_language_from_files_and_conversations(service: Service, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("\n\n".join(SENTENCES))
    told = [[{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": f"{i + 1}."}] for i in range(40)]
    with remote(service.url, service.token) as there:
        for data in (str(tmp_path / "book.txt"), SENTENCES, pd.DataFrame({"messages": told})):
            request = TrainRequest(name="sent", data=data, task="language", model="gpt", epochs=1)
            found = there.submit(request).result(600)
            assert found.info.task == "language" and found.info.iterative
        chunks = list(there.generate(GenerateRequest(model="sent", data={"messages": told[0][:1]}, max_steps=3)))
        assert chunks[-1].finish
        there.models.delete("sent")


def test_a_page_of_an_allowed_origin_may_ask(backend: LocalBackend) -> None:
    with in_thread(backend, Settings(origins=frozenset({"https://a.example"}))) as url:
        head = {"origin": "https://a.example", "access-control-request-method": "POST"}
        assert httpx2.options(f"{url}/v1/chat/completions", headers=head).status_code == 204
