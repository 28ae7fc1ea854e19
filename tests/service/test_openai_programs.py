"""LangChain, LiteLLM and the magics of jupyter-ai ask a service, each in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from peers import python_of
from serving import Service
from writers import TALKING, writer

from maas_magics.api.requests import GenerateRequest, ImportRequest, PredictRequest, TrainRequest
from maas_magics.local.backend import LocalBackend

pytestmark = pytest.mark.slow

TEXTS = [f"{one} went up {n} hills" for one in ("Jack", "Tom", "Kim") for n in range(8)]

LANGCHAIN = """
import asyncio, json, sys
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

url, token = sys.argv[1], sys.stdin.readline().strip()
to = {"base_url": url, "api_key": token, "max_retries": 0}
found = {}
plain = OpenAI(model="writer", temperature=0, max_tokens=8, **to)
found["text"] = plain.invoke("Jack and")
found["text streamed"] = "".join(plain.stream("Jack and"))
found["texts"] = plain.batch(["Jack and", "Jill"])
chat = ChatOpenAI(model="writer", temperature=0, max_tokens=8, **to)
said = [SystemMessage("Be brief."), HumanMessage("Jack and")]
answer = chat.invoke(said)
found["said"], found["tokens"] = answer.content, answer.usage_metadata["output_tokens"]
found["said streamed"] = "".join(part.content for part in chat.stream(said))

async def later():
    return [part.content async for part in chat.astream(said)]

found["said later"] = "".join(asyncio.run(later()))
tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object",
        "properties": {"city": {"enum": ["Oslo", "Bonn"]}}, "required": ["city"], "additionalProperties": False}}}
caller = ChatOpenAI(model="writer", temperature=0, max_tokens=60, **to).bind_tools([tool], tool_choice="weather")
found["calls"] = [[call["name"], call["args"]] for call in caller.invoke(said).tool_calls]
whole = None
for part in caller.stream(said):
    whole = part if whole is None else whole + part
found["calls streamed"] = [[call["name"], call["args"]] for call in whole.tool_calls]
form = ChatOpenAI(model="writer", temperature=0, max_tokens=60, **to).with_structured_output(
    {"title": "place", "type": "object", "properties": {"city": {"enum": ["Oslo", "Bonn"]}}, "required": ["city"],
     "additionalProperties": False}, method="json_schema")
found["form"] = form.invoke(said)
vectors = OpenAIEmbeddings(model="near", check_embedding_ctx_length=False, **to)
found["vectors"] = vectors.embed_documents(["Jack went up 3 hills", "Kim"])
print(json.dumps(found))
"""

LITELLM = """
import asyncio, json, os, sys
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm

url, token = sys.argv[1], sys.stdin.readline().strip()
to = {"api_base": url, "api_key": token, "num_retries": 0}
found = {}
text = {"model": "text-completion-openai/writer", "prompt": "Jack and", "max_tokens": 8, "temperature": 0, **to}
found["text"] = litellm.text_completion(**text).choices[0].text
found["text streamed"] = "".join(part.choices[0].text or "" for part in litellm.text_completion(stream=True, **text))
said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Jack and"}]
chat = {"model": "openai/writer", "messages": said, "max_tokens": 8, "temperature": 0, **to}
answer = litellm.completion(**chat)
found["said"], found["tokens"] = answer.choices[0].message.content, answer.usage.completion_tokens
found["said streamed"] = "".join(part.choices[0].delta.content or "" for part in litellm.completion(stream=True, **chat))

async def later():
    parts = await litellm.acompletion(stream=True, **chat)
    return [part.choices[0].delta.content or "" async for part in parts]

found["said later"] = "".join(asyncio.run(later()))
told = litellm.embedding(model="openai/near", input=["Jack went up 3 hills", "Kim"], encoding_format="float", **to)
found["vectors"] = [one["embedding"] for one in told.data]
try:
    litellm.completion(**{**chat, "temperature": 101})
except litellm.BadRequestError as error:
    found["refused"] = str(error)
print(json.dumps(found))
"""

JUPYTER_AI = """
import json, os, sys
os.environ["OPENAI_API_BASE"], os.environ["OPENAI_API_KEY"] = sys.argv[1], sys.stdin.readline().strip()
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "jupyter_ai_magics")
asked = 'openai-chat-custom:writer -f text -m {"temperature":0,"max_tokens":8}'
answer = shell.run_cell_magic("ai", asked, "Jack and")
print(json.dumps({"said": str(getattr(answer, "output", None) or getattr(answer, "text", None) or answer)}))
"""


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> LocalBackend:
    """A store with ``writer``, whose template knows tools, and ``near``, which makes vectors."""
    place = tmp_path_factory.mktemp("programs")
    made = LocalBackend(str(place / "store"))
    made.submit(ImportRequest(path=str(writer(place / "folder", TALKING)), name="writer")).result(600)
    pairs = pd.DataFrame({"a": TEXTS, "b": [text.upper() for text in TEXTS]})
    made.submit(
        TrainRequest(name="near", data=pairs, task="embedding", pairs=("a", "b"), model="textcnn", epochs=1)
    ).result(600)
    return made


@pytest.fixture(scope="module")
def service(backend: LocalBackend) -> Iterator[Service]:
    made = Service(Path(backend.place).parent)
    yield made
    made.stop()


def asked(peer: str, code: str, service: Service) -> dict[str, Any]:
    """What a program of another environment finds."""
    done = subprocess.run(
        [python_of(peer), "-c", code, f"{service.url}/v1"],
        input=service.token, capture_output=True, text=True, timeout=600,
        env={**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def wanted(backend: LocalBackend) -> dict[str, Any]:
    """What the kernel answers."""

    def said(data: Any) -> str:
        chunks = backend.generate(GenerateRequest(model="writer", data=data, max_steps=8))
        return "".join(chunk.delta for chunk in chunks if chunk.delta)

    text = said("Jack and")
    talk = said({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Jack and"}]})
    vectors = backend.predict(PredictRequest(model="near", data=pd.DataFrame({"a": ["Jack went up 3 hills", "Kim"]})))
    return {
        "text": text, "text streamed": text, "said": talk, "said streamed": talk, "said later": talk,
        "vectors": next(iter(vectors.columns.values())),
    }  # fmt: skip


def same(found: dict[str, Any], answers: dict[str, Any]) -> None:
    for name, value in answers.items():
        if name == "vectors":
            assert found[name] == [pytest.approx(one, abs=1e-4) for one in value.tolist()]
        else:
            assert found[name] == value, name


def test_langchain_completes_talks_streams_calls_and_embeds(service: Service, backend: LocalBackend) -> None:
    found = asked("langchain", LANGCHAIN, service)
    answers = wanted(backend)
    same(found, answers)
    assert found["texts"][0] == answers["text"] and found["tokens"] == 8
    (call,) = found["calls"]
    assert call[0] == "weather" and call[1]["city"] in ("Oslo", "Bonn") and found["calls streamed"] == [call]
    assert found["form"]["city"] in ("Oslo", "Bonn")


def test_litellm_completes_talks_streams_and_embeds(service: Service, backend: LocalBackend) -> None:
    found = asked("litellm", LITELLM, service)
    same(found, wanted(backend))
    assert found["tokens"] == 8 and "temperature is 101" in found["refused"]


def test_the_magics_of_jupyter_ai_talk(service: Service, backend: LocalBackend) -> None:
    found = asked("jupyter-ai", JUPYTER_AI, service)
    chunks = backend.generate(
        GenerateRequest(model="writer", data={"messages": [{"role": "user", "content": "Jack and"}]}, max_steps=8)
    )
    assert found["said"].strip() == "".join(chunk.delta for chunk in chunks if chunk.delta).strip()
