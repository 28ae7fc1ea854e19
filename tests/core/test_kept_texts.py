"""Texts whose slot went to others are not read again: the same answers, within the memory that was given."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from writing import VERSES, decoder, feature

from maas_magics.core.exporters.text.graph import write_decoder
from maas_magics.core.runtimes.text.kept import BLOCK, Kept
from maas_magics.core.runtimes.text.onnx_engine import OnnxEngine
from maas_magics.core.runtimes.text.pages import zeros
from maas_magics.core.runtimes.text.room import SLOTS, room_for
from maas_magics.core.runtimes.text.session import PART, TextSession
from maas_magics.core.runtimes.text.torch_engine import TorchEngine

LENGTH = 300


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as a file."""
    file = tmp_path_factory.mktemp("writer") / "model.onnx"
    write_decoder(decoder(LENGTH), file)
    return file


@pytest.fixture(params=["torch", "onnx"])
def made(request: Any, exported: Path) -> Any:
    """Makes a session of two slots that may take some bytes."""

    def of(memory: int = 0, sparing: bool = True, slots: int = 2) -> TextSession:
        if request.param == "torch":
            return TextSession(feature(LENGTH), TorchEngine(decoder(LENGTH), slots, LENGTH, sparing), 0, memory)
        engine = OnnxEngine(exported)
        engine.allocate(slots, LENGTH, sparing)
        return TextSession(feature(LENGTH), engine, 0, memory)

    return of


def counting(session: TextSession) -> list[int]:
    """Tokens that are read from now on."""
    read: list[int] = []
    engine: Any = session._engine
    one, several = engine.read, engine.step
    engine.read = lambda slot, ids, start: (read.append(len(ids)), one(slot, ids, start))[1]
    engine.step = lambda slots, ids, places: (read.append(len(ids)), several(slots, ids, places))[1]
    return read


def raw(text: str) -> list[Any]:
    return [np.array([[text]], dtype=object)]


def answered(session: TextSession, prompts: Sequence[str], tokens: int = 5) -> list[list[int]]:
    """The likeliest tokens behind several prompts, which are stepped together."""
    states = [session.start(raw(prompt)) for prompt in prompts]
    found: list[list[int]] = [[] for _ in prompts]
    while going := [place for place, one in enumerate(found) if len(one) < tokens]:
        for place, logits in zip(going, session.step([states[place] for place in going]), strict=True):
            if logits is not None:
                found[place].append(int(logits.argmax()))
                states[place].feed(found[place][-1])
    for state in states:
        state.close()
    return found


COMMON = "You are careful, and never make up a name, a date or a number. "
PROMPTS = [COMMON + " ".join(VERSES[place::100]) for place in (0, 20, 40, 60, 80, 99)]


def test_a_prompt_of_before_is_not_read_again_and_its_answer_stays_the_same(made: Any) -> None:
    wanted = [answered(made(), [prompt])[0] for prompt in PROMPTS]
    session = made(10**7)
    read = counting(session)
    for start in range(0, len(PROMPTS), 2):
        assert answered(session, PROMPTS[start : start + 2]) == wanted[start : start + 2]
    read.clear()
    for prompt, answer in zip(PROMPTS, wanted, strict=True):
        assert answered(session, [prompt]) == [answer]
    assert sum(read) == 5 * len(PROMPTS)  # the last token of each prompt, and four of the answer
    bare = made()
    for _ in range(2):
        read = counting(bare)
        assert [answered(bare, [prompt])[0] for prompt in PROMPTS] == wanted
    assert sum(read) > 15 * len(PROMPTS)


def test_texts_of_before_stay_within_the_memory_whatever_is_asked(made: Any) -> None:
    draw = random.Random(3)
    wanted = {prompt: answered(made(), [prompt], 4)[0] for prompt in PROMPTS}
    texts = [*PROMPTS, *(prompt[:90] for prompt in PROMPTS[:3])]
    wanted |= {prompt: answered(made(), [prompt], 4)[0] for prompt in texts[len(PROMPTS) :]}
    token = made()._engine.token_bytes
    for memory, sparing in ((0, True), (300 * token, True), (600 * token, False), (700 * token, True), (10**7, False)):
        session = made(memory, sparing)
        kept = 0
        for _ in range(25):
            several = draw.sample(texts, draw.choice((1, 2)))
            assert answered(session, several, 4) == [wanted[one] for one in several]
            over = session._past.used + session._engine.touched * token
            assert session._past.used == 0 or over <= memory
            kept = max(kept, session._past.used)
        assert (kept > 0) == (memory > 600 * token)


def test_what_was_not_read_of_a_prompt_is_not_kept(made: Any) -> None:
    session = made(10**7)
    long = COMMON * 4
    ids = session.feature.prompt(long)
    assert len(ids) > PART + 2
    wanted = answered(made(), [long])
    states = [session.start(raw(long)), session.start(raw("Tom"))]
    session.step(states)
    assert states[0].read == PART
    for state in states:
        state.close()
    answered(session, ["Jack and Sue", "Jill and Sue"])
    assert not {0, 1} & {slot for slot, kept in enumerate(session._kept) if kept[:PART] == ids[:PART]}
    again = session.start(raw(long))
    assert again.read == PART
    again.close()
    assert answered(session, [long]) == wanted


def test_a_pass_that_fails_leaves_nothing_of_it_behind(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [answered(made(), [prompt])[0] for prompt in PROMPTS]
    session = made(10**7)
    engine: Any = session._engine

    def fails(*_: Any) -> Any:
        raise RuntimeError("no")

    with monkeypatch.context() as patched:
        patched.setattr(engine, "read", fails)
        state = session.start(raw(PROMPTS[0]))
        with pytest.raises(RuntimeError):
            session.step([state])
        state.close()
    for _ in range(2):
        assert [answered(session, [prompt])[0] for prompt in PROMPTS] == wanted


def test_the_longest_beginning_is_found_and_what_was_wanted_longest_ago_goes_first() -> None:
    draw = random.Random(5)
    for trial in range(60):
        kept, texts = Kept(2), []
        most = draw.choice((40, 200, 1_000, 10**6))
        for _ in range(40):
            base = list(draw.choice(texts))[: draw.randrange(80)] if texts and draw.random() < 0.7 else []
            text = [*base, *(draw.randrange(3) for _ in range(draw.randrange(1, 50)))]
            texts.append(text)

            def read(start: int, end: int, text: list[int] = text) -> list[int]:
                return text[:end][start:]

            kept.keep(text, read, most)
            assert kept.used <= most
            for asked in draw.sample(texts, min(4, len(texts))):
                chain = kept.find(asked)
                there = [token for block, shared in chain for token in block.data[:shared]]
                assert there == asked[: len(there)]
                assert all(shared == BLOCK for _, shared in chain[:-1])
                if most == 10**6:
                    assert len(there) == len(asked)
            blocks = list(kept._blocks.values())
            assert kept.used == 2 * sum(len(block.data) for block in blocks)
            known = {0, *(block.number for block in blocks)}
            assert all(block.key[0] in known for block in blocks), trial
        kept.bound(20)
        assert kept.used <= 20
        kept.bound(0)
        assert not kept.used and not kept._blocks and not kept._next


def test_a_text_that_goes_on_has_its_end_once() -> None:
    kept = Kept(1)
    text = list(range(100))
    for end in (20, 25, 31, 40, 41):
        kept.keep(text[:end], lambda start, end: text[start:end], 10**6)
        assert kept.used == end
    kept.keep(text[:33], lambda start, end: text[start:end], 10**6)
    assert kept.used == 41


def test_pages_are_zeros_that_may_be_written_to() -> None:
    for sparing in (True, False):
        there = zeros((2, 3, 5), sparing)
        assert there.shape == (2, 3, 5) and there.dtype == np.float32 and not there.any()
        there[1] = 2
        assert there.sum() == 30
        assert zeros((0, 3), sparing).shape == (0, 3)


def test_beyond_the_usual_slots_half_of_the_memory_is_for_texts_of_before() -> None:
    assert room_for("m:1", 10, 100, 8 * 1_000) == (SLOTS, 100)
    assert room_for("m:1", 10, 100, 12 * 1_000) == (SLOTS + 2, 100)
