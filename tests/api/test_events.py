"""Events are plain values that survive a wire and a disk."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_magics.api.events import EpochEnd, Event, Finished, Message, Started, Step, decode, encode

KINDS = get_args(Event)
texts = st.text(st.characters(exclude_categories=["Cs"]))
counts = st.integers(0, 2**63 - 1)
figures = st.dictionaries(texts, st.floats(), max_size=4)
FIELDS = {
    int: counts,
    float: st.floats(),
    str: texts,
    bool: st.booleans(),
    dict[str, str]: st.dictionaries(texts, texts, max_size=3),
    dict[str, float]: figures,
    tuple[float, ...]: st.lists(st.floats(), max_size=4).map(tuple),
    tuple[str, ...]: st.lists(texts, max_size=3).map(tuple),
    tuple[bytes, ...]: st.lists(st.binary(), max_size=3).map(tuple),
}


def values(kind: type) -> st.SearchStrategy[object]:
    """Any event of a kind."""
    given = {}
    for field in msgspec.structs.fields(kind):
        chosen = [choice for choice in get_args(field.type) if isinstance(choice, str)]
        given[field.name] = st.sampled_from(chosen) if chosen else FIELDS.get(field.type, st.one_of(st.none(), texts))
    return st.builds(kind, **given)


@given(st.one_of([values(kind) for kind in KINDS]))
def test_what_is_encoded_comes_back(event: Event) -> None:
    back = decode(encode(event))
    # NaN is unequal to itself, so the comparison is of their texts and of their bytes.
    assert type(back) is type(event) and repr(back) == repr(event) and encode(back) == encode(event)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf"), 5e-324])
def test_figures_that_json_does_not_know(loss: float) -> None:
    back = decode(encode(Step(step=1, epoch=1, loss=loss, samples=8)))
    assert isinstance(back, Step) and repr(back.loss) == repr(loss)


def test_events_are_frozen_and_begin_at_nothing() -> None:
    event = Started(title="train m")
    assert (event.seq, event.time) == (0, 0.0)
    with pytest.raises(AttributeError):
        event.seq = 3  # type: ignore[misc]


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xc1", msgspec.msgpack.encode({"type": "Step"}),
                                  msgspec.msgpack.encode({"type": "Exec", "code": "1"})])  # fmt: skip
def test_what_is_no_event_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode(data)


def test_an_older_reader_passes_over_new_fields() -> None:
    newer = msgspec.msgpack.encode({"type": "Message", "text": "t", "colour": "red"})
    assert decode(newer) == Message(text="t")


def test_kinds_are_told_apart_by_name() -> None:
    assert decode(encode(Finished(state="failed", error="x"))) == Finished(state="failed", error="x")
    assert len({kind.__name__ for kind in KINDS}) == len(KINDS)
    assert EpochEnd in KINDS
