"""Functions that a model may call: by its template, as texts, and forced by a grammar."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import torch
from openai import OpenAI
from serving import in_thread
from writers import TALKING as TEMPLATE
from writers import writer

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.requests import ImportRequest
from maas_magics.core.batches.language import END_OF_TEXT
from maas_magics.core.features.chat import CHATML, MARKS, rendered
from maas_magics.core.features.tokens import train_byte_tokenizer
from maas_magics.local.backend import LocalBackend
from maas_magics.service.openai.tools import Held, Tools

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "What the weather is like <there>",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Oslo", "Bonn"]}, "days": {"$ref": "#/$defs/few"}},
            "required": ["city", "days"],
            "additionalProperties": False,
            "$defs": {"few": {"type": "integer", "minimum": 1, "maximum": 9}},
        },
    },
}
TIME: Any = {"type": "function", "function": {"name": "time"}}
TOOLS: Any = [WEATHER, TIME]
ASKED: Any = [{"role": "user", "content": "And in Oslo?"}]
CALL = '{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}'


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    """Of a service of ``calls``, whose template knows tools, and ``plain``, whose template knows none."""
    place = tmp_path_factory.mktemp("tools")
    torch.set_num_threads(1)
    backend = LocalBackend(str(place / "store"))
    for name, template in (("calls", TEMPLATE), ("plain", CHATML)):
        backend.submit(ImportRequest(path=str(writer(place / name, template)), name=name)).result(600)
    with in_thread(backend) as url:
        yield OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def streamed(client: OpenAI, **asked: Any) -> tuple[str, list[dict[str, str]], str]:
    """Text, calls, and why it ended, as they come."""
    text, calls, end = "", list[dict[str, str]](), ""
    for part in client.chat.completions.create(stream=True, **asked):
        (choice,) = part.choices
        text += choice.delta.content or ""
        for call in choice.delta.tool_calls or []:
            assert call.function is not None and call.index == len(calls) and (call.id or "").startswith("call_")
            calls.append({"name": call.function.name or "", "arguments": call.function.arguments or ""})
        end = choice.finish_reason or end
    return text, calls, end


def whole(client: OpenAI, **asked: Any) -> tuple[str, list[dict[str, str]], str]:
    choice = client.chat.completions.create(**asked).choices[0]
    calls = [
        {"name": one.function.name, "arguments": one.function.arguments} for one in choice.message.tool_calls or []
    ]  # type: ignore[union-attr]
    return choice.message.content or "", calls, choice.finish_reason


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_call_that_is_asked_for_keeps_to_its_schema(choice: Any, client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "calls", "messages": ASKED, "tools": TOOLS, "tool_choice": choice}
    names = set()
    for seed in range(4):
        found = whole(client, seed=seed, max_tokens=200, **asked)
        text, (call,), end = found
        assert text == "" and end == "tool_calls"
        given = json.loads(call["arguments"])
        names.add(call["name"])
        if call["name"] == "weather":
            assert given["city"] in ("Oslo", "Bonn") and 1 <= given["days"] <= 9 and len(given) == 2
        assert streamed(client, seed=seed, max_tokens=200, **asked) == found
    assert names <= ({"weather", "time"} if choice == "required" else {"weather"})


@pytest.mark.parametrize(
    ("written", "text", "calls"),
    [
        (f"<tool_call>\n{CALL}\n</tool_call>", "", 1),
        (f"Let me see.\n<tool_call>{CALL}</tool_call><tool_call>{CALL}</tool_call>", "Let me see.", 2),
        (f"[{CALL}]", "", 1),
        ('{"name": "time", "parameters": {}}', "", 1),
        ('{"name": "other", "arguments": {}}', '{"name": "other", "arguments": {}}', 0),
        ("a < b, [1]", "a < b, [1]", 0),
        ("<tool_call>no JSON</tool_call>", "<tool_call>no JSON</tool_call>", 0),
    ],
)
def test_calls_are_found_in_what_is_written_whole_and_as_it_comes(
    written: str, text: str, calls: int, client: OpenAI
) -> None:
    asked: dict[str, Any] = {
        "model": "calls", "messages": ASKED, "tools": TOOLS, "max_tokens": 300,
        "extra_body": {"guided_regex": re.sub(r"([\[\]{}()^$.|?*+\\])", r"\\\1", written)},
    }  # fmt: skip
    found = whole(client, **asked)
    assert (found[0], len(found[1]), found[2]) == (text, calls, "tool_calls" if calls else "stop")
    said, made, end = streamed(client, **asked)
    assert (said.strip(), made, end) == (text, found[1], found[2])
    if calls and "weather" in written:
        assert found[1][0]["name"] == "weather" and json.loads(found[1][0]["arguments"])["days"] == 2
    unasked = {**asked, "tools": openai.omit}
    assert whole(client, **unasked)[0] == written and streamed(client, **unasked)[0] == written
    if calls == 2:
        assert len(whole(client, parallel_tool_calls=False, **asked)[1]) == 1
    assert whole(client, tool_choice="none", **asked)[1] == []


def test_a_call_that_is_cut_off_is_a_text(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "calls", "messages": ASKED, "tools": TOOLS, "tool_choice": "required"}
    text, calls, end = whole(client, max_tokens=4, seed=1, **asked)
    assert text.startswith("{") and not calls and end == "length"
    assert streamed(client, max_tokens=4, seed=1, **asked) == (text, [], "length")


def test_a_template_gets_tools_and_calls_as_it_is_written_for() -> None:
    said = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]}  # fmt: skip
    told = [*ASKED, said, {"role": "tool", "tool_call_id": "1", "content": "rain"}]
    text = rendered(TEMPLATE, told, True, {}, TOOLS)
    assert json.dumps(WEATHER) in text and '"arguments": {"city": "Oslo"}' in text and "tool\nrain" in text
    import transformers

    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=__import__("tokenizers").Tokenizer.from_str(
        train_byte_tokenizer([TEMPLATE] * 3, 300, (END_OF_TEXT, *MARKS))))  # fmt: skip
    plain = [
        *ASKED,
        {**said, "content": "", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}]},
        told[2],
    ]
    assert text == tokenizer.apply_chat_template(
        plain, tools=TOOLS, chat_template=TEMPLATE, tokenize=False, add_generation_prompt=True
    )
    for broken, why in (({"arguments": "{}"}, "names no function"), ({"name": "a", "arguments": "{"}, "not JSON")):
        with pytest.raises(DataError, match=why):
            rendered(TEMPLATE, [{"role": "assistant", "tool_calls": [{"function": broken}]}], True, {})


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"model": "plain", "tools": TOOLS}, "knows no tools"),
        ({"tools": [{"type": "retrieval"}]}, "not a function"),
        ({"tools": ["weather"]}, "not a function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "name of a tool"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": [1]}}]}, "not a schema"),
        ({"tools": [TIME, TIME]}, "same name"),
        ({"tools": [TIME] * 129}, "129 functions"),
        ({"tools": TOOLS, "tool_choice": "often"}, "'often' is not known"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "dance"}}}, "not among the tools"),
        ({"tool_choice": "required"}, "there are no tools"),
        ({"tools": TOOLS, "tool_choice": "required", "response_format": {"type": "json_object"}}, "Drop one"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "no"}}}], "tool_choice": "required"}, "not valid"),
    ],
)  # fmt: skip
def test_what_cannot_be_called_is_told(given: dict[str, Any], why: str, client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=why):
        client.chat.completions.create(**{"model": "calls", "messages": ASKED, "extra_body": given, "max_tokens": 9})


@pytest.mark.parametrize(
    "text",
    [
        '{"name": ["time"]}',
        '{"name": {}}',
        "[1, null]",
        "[]",
        "{}",
        '{"function": 3}',
        "[" * 5_000,
        '{"name": "time"',
        "",
    ],
)
def test_json_that_is_no_call_is_a_text(text: str) -> None:
    for written in (text, f"<tool_call>{text}</tool_call>", f"so <tool_call>{text}"):
        assert Tools(TOOLS, None).read(written) == (written, [])
        held = Held(Tools(TOOLS, None))
        said = "".join(held.add(letter) for letter in written)
        assert (said + held.rest()[0], held.rest()[1]) == (written, [])
    mixed = Tools(TOOLS, None).read(
        '[{"name": "time"}, {"name": "time", "arguments": {"at": 100000000000000000000000}}]'
    )
    assert [call["function"]["arguments"] for call in mixed[1]] == ["{}", '{"at": 100000000000000000000000}']


def test_what_is_held_back_is_what_may_be_a_call() -> None:
    text = f"a < b <tool <tool_call>{CALL}"
    held = Held(Tools(TOOLS, None))
    said = [held.add(letter) for letter in text]
    assert "".join(said) == "a < b <tool " and said[:3] == ["a", " ", ""]
    rest, calls = held.rest()
    assert rest == "" and calls[0]["function"]["name"] == "weather"
    free = Held(None)
    assert [free.add(letter) for letter in "{<"] == ["{", "<"] and free.rest() == ("", [])
    schemas = [{"type": "function", "function": {"name": name, "parameters": {"$defs": {"x": {"type": kind}}}}} for name, kind in (("a", "string"), ("b", "null"))]  # fmt: skip
    with pytest.raises(OptionError, match="different schemas by 'x'"):
        Tools(schemas, "required")
