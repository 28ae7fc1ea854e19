"""Tokens that each client may have in a minute, whose answers wait, and what of it a service counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pandas as pd
import pytest
from openai import OpenAI
from serving import in_thread, remote, wait_for
from writers import writer

from maas_magics.api.requests import GenerateRequest, ImportRequest, PredictRequest
from maas_magics.local.backend import LocalBackend
from maas_magics.service.__main__ import main
from maas_magics.service.allowance import Allowance
from maas_magics.service.gate import Impatient
from maas_magics.service.settings import Settings
from maas_magics.service.tokens import Token, TokenFile, Tokens, digest_of


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> LocalBackend:
    place = tmp_path_factory.mktemp("allowance")
    made = LocalBackend(str(place / "store"))
    made.submit(ImportRequest(path=str(writer(place / "writer")), name="writer")).result(600)
    return made


def known(name: str, **more: Any) -> Token:
    return Token(name, digest_of(name.encode()), ("predict",), **more)


@pytest.fixture(scope="module")
def url(backend: LocalBackend) -> Iterator[str]:
    tokens = Tokens(None, [known("usual"), known("small", tokens_per_minute=60), known("batch", priority="batch")])
    with in_thread(backend, Settings(tokens=tokens, tokens_per_minute=100_000)) as found:
        yield found


def client(url: str, key: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def test_who_has_had_its_tokens_waits_for_the_time_that_it_is_told(url: str) -> None:
    asked: dict[str, Any] = {"model": "writer", "prompt": "Jack and", "max_tokens": 50, "temperature": 0}
    first = client(url, "small").completions.create(**asked)
    assert first.choices[0].text
    with pytest.raises(openai.RateLimitError, match="60 tokens a minute") as caught:
        client(url, "small").completions.create(**asked)
    assert caught.value.type == "rate_limit_error" and 1 <= int(caught.value.response.headers["retry-after"]) <= 60
    with pytest.raises(openai.RateLimitError):
        client(url, "small").chat.completions.create(
            model="writer", messages=[{"role": "user", "content": "a"}], stream=True, max_tokens=50
        )
    head = {"authorization": "Bearer small"}
    body = {"inputs": "Jack", "max_steps": 50}
    refused = httpx2.post(f"{url}/maas/v1/models/writer/generate", json=body, headers=head)
    assert refused.status_code == 429 and "tokens a minute" in refused.json()["error"]
    assert client(url, "usual").completions.create(**asked).choices[0].text == first.choices[0].text


def test_what_a_request_took_is_put_right_at_its_end() -> None:
    allowance = Allowance(Tokens(None, [known("a", tokens_per_minute=1_000)]), 100)
    expected = allowance.take("a", 400, 2, 300)
    assert expected == 700
    with pytest.raises(Impatient) as caught:
        allowance.take("a", 0, 1, 400)
    assert 1 <= caught.value.seconds <= 60 and str(caught.value.seconds) in caught.value.hint
    allowance.settle("a", expected, 20)
    assert allowance.take("a", 0, 1, 400) == 400
    assert allowance.take("b", 0, 1, 10**6) == 10**6  # more than ever fits is begun when nothing was taken before
    with pytest.raises(Impatient, match="More than 100 tokens"):
        allowance.take("b", 4, 1, None)
    assert Allowance(None, 0).take("", 10**9, 1, None) == 0


def test_an_answer_that_does_not_begin_or_is_left_costs_what_was_made(url: str, backend: LocalBackend) -> None:
    tokens = Tokens(None, [known("one", tokens_per_minute=2_000)])
    with in_thread(backend, Settings(tokens=tokens)) as found:
        for _ in range(5):  # 2,000 each
            with pytest.raises(openai.BadRequestError):
                client(found, "one").completions.create(model="writer", prompt="a", max_tokens=2_000, temperature=200)
        for _ in range(3):
            with client(found, "one").completions.create(
                model="writer", prompt="a", max_tokens=1_500, stream=True, temperature=0
            ) as stream:
                next(iter(stream))
            wait_for(lambda: not backend.generating()["states"])
        with remote(found, "one") as there:
            for _ in range(2):
                chunks = there.generate(GenerateRequest(model="writer", data="a", max_steps=1_000))
                next(chunks)
                chunks.close()
                wait_for(lambda: not backend.generating()["states"])


def test_rows_of_a_table_cost_tokens_too(backend: LocalBackend) -> None:
    tokens = Tokens(None, [known("one", tokens_per_minute=300)])
    rows = pd.DataFrame({"text": ["Jack and"] * 8})
    with in_thread(backend, Settings(tokens=tokens)) as found, remote(found, "one") as there:
        asked = PredictRequest(model="writer", data=rows, max_tokens=200)
        assert len(there.predict(asked).columns["prediction"]) == 8
        body = {"model": "writer", "prompt": "a", "max_tokens": 200}
        head = {"authorization": "Bearer one"}
        assert httpx2.post(f"{found}/v1/completions", json=body, headers=head).status_code == 429


def test_the_answers_of_a_client_or_a_request_are_for_a_batch(url: str, backend: LocalBackend) -> None:
    seen = list[str]()
    generate = backend.generate
    backend.generate = lambda request: (seen.append(request.priority), generate(request))[1]  # type: ignore[method-assign]
    try:
        asked: dict[str, Any] = {"model": "writer", "prompt": "a", "max_tokens": 2}
        client(url, "usual").completions.create(**asked)
        client(url, "usual").completions.create(extra_body={"service_tier": "flex"}, **asked)
        client(url, "usual").completions.create(extra_body={"priority": 3}, **asked)
        client(url, "batch").completions.create(**asked)
        with remote(url, "usual") as there:
            list(there.generate(GenerateRequest(model="writer", data="a", max_steps=2)))
            list(there.generate(GenerateRequest(model="writer", data="a", max_steps=2, priority="batch")))
    finally:
        backend.generate = generate  # type: ignore[method-assign]
    assert seen == ["interactive", "batch", "batch", "batch", "interactive", "batch"]


def test_tokens_and_the_first_of_them_are_counted(url: str) -> None:
    head = {"authorization": "Bearer usual"}

    def counted() -> dict[str, float]:
        lines = httpx2.get(f"{url}/metrics", headers=head).text.splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    before = counted()
    found = client(url, "usual").completions.create(
        model="writer", prompt=["Jack and", "Tom"], max_tokens=7, n=2, seed=1
    )
    assert found.usage is not None
    after = counted()
    grown = {name: after[name] - before.get(name, 0.0) for name in after}
    assert grown['maas_tokens_total{of="answer"}'] == found.usage.completion_tokens > 0
    assert grown['maas_tokens_total{of="prompt"}'] == 2 * found.usage.prompt_tokens  # each is read for two answers
    assert grown["maas_first_chunk_seconds_count"] == 4 == grown["maas_generation_begun_total"]
    assert grown["maas_first_chunk_seconds_sum"] > 0 and grown["maas_generation_wait_seconds_total"] >= 0
    assert after["maas_generation_waiting"] == 0


def test_a_token_keeps_its_limit_and_its_priority(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "tokens")
    main(["token", "add", "night", "--tokens", file, "--tokens-per-minute", "5000", "--priority", "batch"])
    main(["token", "add", "day", "--tokens", file])
    main(["token", "list", "--tokens", file])
    told = capsys.readouterr().out
    assert (
        "night: predict, train, admin · 5,000 tokens a minute · batch" in told
        and "day: predict, train, admin\n" in told
    )
    night, day = TokenFile(Path(file)).read()
    assert (night.tokens_per_minute, night.priority, day.tokens_per_minute, day.priority) == (
        5_000,
        "batch",
        0,
        "interactive",
    )
    with pytest.raises(SystemExit) as caught:
        main(["token", "add", "x", "--tokens", file, "--tokens-per-minute", "-1"])
    assert caught.value.code == 2
    old = tmp_path / "old"
    old.write_bytes(b'[{"name":"a","digest":"%s","scopes":["predict"]}]' % (b"0" * 64))
    assert TokenFile(old).read()[0].priority == "interactive"
