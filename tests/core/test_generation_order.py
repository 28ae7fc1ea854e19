"""Who has a turn: what someone waits for before what is for a batch, which makes room and goes on as if it had not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from writing import session

from maas_magics.api.stream import Chunk
from maas_magics.core.generation.loop import Loop

PROMPTS = ["Jack and Sue went up", "Tom", "Ann and Kim went up the hill", "water and pails", "Bob"]


def row(text: str) -> list[Any]:
    return [np.array([[text]], dtype=object)]


def begun(loop: Loop, prompt: str, tokens: int, batch: bool = False, **params: Any) -> Any:
    return loop.generate(row(prompt), loop.session.sampler(params), tokens, batch=batch, ahead=tokens + 1)


def text(chunks: list[Chunk]) -> str:
    return "".join(chunk.delta for chunk in chunks if chunk.delta)


@pytest.mark.parametrize("params", [{}, {"temperature": 1.0, "seed": 3}, {"regex": "[a-z]{40,60}"}])
def test_a_batch_makes_room_and_goes_on_where_it_was(params: dict[str, Any]) -> None:
    alone = [text(list(begun(Loop(session(1), "m:1"), prompt, 60, **params))) for prompt in PROMPTS]
    loop = Loop(session(2), "m:1")
    batch = [begun(loop, prompt, 60, batch=True, **params) for prompt in PROMPTS[:3]]
    first = next(batch[0])
    urgent = [begun(loop, prompt, 60, **params) for prompt in PROMPTS[3:]]
    assert [text(list(stream)) for stream in urgent] == alone[3:]
    rest = [text(list(stream)) for stream in batch]
    assert [(first.delta or "") + rest[0], *rest[1:]] == alone[:3]
    assert loop.begun == 5 and loop.waited >= 0 and loop.waiting == 0


def test_what_is_waited_for_comes_before_what_is_for_a_batch() -> None:
    loop, turns = Loop(session(1), "m:1"), list[str]()
    start = loop.session.start
    held = begun(loop, "Jack", 300)
    next(held)
    loop.session.start = lambda inputs: (turns.append(inputs[0][0, 0]), start(inputs))[1]  # type: ignore[method-assign]
    streams = [begun(loop, prompt, 9, batch) for prompt, batch in (("Tom", True), ("Ann", False), ("Bob", False))]
    held.close()
    for stream in streams:
        assert list(stream)[-1].finish
    assert [turn for turn in turns if turn != "Tom"] == ["Ann", "Bob"] and turns[-1] == "Tom"


def test_a_batch_that_is_closed_while_it_waits_is_gone() -> None:
    loop = Loop(session(1), "m:1")
    batch = begun(loop, "Tom", 200, batch=True)
    next(batch)
    urgent = begun(loop, "Ann", 30)
    next(urgent)
    batch.close()
    assert text(list(urgent))
    assert text(list(begun(loop, "Bob", 5)))
    assert loop.states <= 1 and loop.waiting == 0


def test_a_choice_may_be_of_very_many_texts_and_nothing_is_said_of_them(capfd: pytest.CaptureFixture[str]) -> None:
    loop = Loop(session(2), "m:1")
    many = [str(number) for number in range(10_000)]
    assert text(list(begun(loop, "Tom", 30, choice=many, temperature=1.0, seed=1))) in many
    few = ["yes", "yes, of course", "<|endoftext|>", 'a\n"b"', "日本"]
    found = {text(list(begun(loop, "Tom", 60, choice=few, temperature=50.0, seed=seed))) for seed in range(12)}
    assert found <= {*few, ""} and len(found) > 1
    assert capfd.readouterr().err == ""
