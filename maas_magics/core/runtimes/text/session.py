"""Texts that are written at once: prompts are read a part at a time, and what two have in common is read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import Array
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.runtimes.text.kept import Kept
from maas_magics.core.runtimes.text.sampler import TextSampler

PART = 128
"""Tokens of prompts that are read in one pass, beside one more of every answer on its way."""

COMMON = 16
"""First tokens that two prompts must share for the second to take them from the first."""


class Engine(Protocol):
    """Passes of a network over texts, each in a slot of its own; see `TorchEngine`."""

    @property
    def slots(self) -> int:
        """Texts at a time."""

    @property
    def length(self) -> int:
        """Tokens of each at most."""

    def read(self, slot: int, ids: Sequence[int], start: int) -> Array:
        """Read some tokens of one text; logits of the next."""

    def step(self, slots: Sequence[int], ids: Sequence[int], places: Sequence[int]) -> Array:
        """Read one token of each of several texts; logits of the next ones."""

    def copy(self, source: int, slot: int, tokens: int) -> None:
        """Give a text the first tokens of another one."""

    @property
    def token_bytes(self) -> int:
        """Bytes of a token's keys and values."""

    @property
    def touched(self) -> int:
        """Tokens whose keys and values take memory."""

    def save(self, slot: int, start: int, end: int) -> Any:
        """A copy of the keys and values of some tokens of a text."""

    def restore(self, slot: int, start: int, data: Any, skip: int, end: int) -> None:
        """Put tokens that were saved into a text, from one of them to before another."""


class TextState:
    """One answer: the tokens so far, and how many of them were read.

    Parameters
    ----------
    session : TextSession
        Where it has its slot.
    ids : sequence of int
        Of the prompt.
    slot, read : int
        Where it is, and how many of its tokens are there already.
    """

    resumable = True

    def __init__(self, session: TextSession, ids: Sequence[int], slot: int, read: int) -> None:
        self._session = session
        self.ids, self.slot, self.read = list(ids), slot, read
        self.size = len(self.ids)
        """Tokens of the prompt."""

    @property
    def full(self) -> bool:
        """Whether no more tokens can be read."""
        return len(self.ids) >= self._session.length

    def feed(self, value: int) -> None:
        """Take the token that was chosen."""
        self.ids.append(value)

    def close(self) -> None:
        """Leave the slot to others; what is in it stays until then."""
        self._session.leave(self)


class TextSession:
    """An open model that writes texts.

    Parameters
    ----------
    feature : ProseFeature
        How texts become tokens.
    engine : Engine
        Passes of the network.
    places : int
        Tokens of a text that there would be room for with more memory; as many as there is room for when 0.
    memory : int
        Bytes of keys and values: what the slots leave of them is for texts whose slot went to others.
    """

    def __init__(self, feature: ProseFeature, engine: Engine, places: int = 0, memory: int = 0) -> None:
        self._places, self._memory = places, memory
        self._past = Kept(engine.token_bytes)
        self.feature, self._engine = feature, engine
        self.slots, self.length = engine.slots, engine.length
        self._free = list(range(engine.slots))  # the one that was left longest ago comes first
        self._kept: list[list[int]] = [[] for _ in self._free]
        """Tokens that were read in each slot."""

    def sampler(self, params: Mapping[str, Any]) -> TextSampler:
        """A sampler for one answer.

        Parameters
        ----------
        params : mapping of str to Any
            See `TextSampler`.
        """
        return TextSampler(self.feature, params)

    def conversation(self, messages: Any, tools: Any = (), calls: bool = False) -> str:
        """The text that a conversation is for the model, up to where its answer begins.

        Parameters
        ----------
        messages : list of dict
            Each with its ``role`` and ``content``.
        tools : list of dict
            Functions that may be called, as OpenAI's API describes them.
        calls : bool
            Whether the answer is to be a call of one of them.
        """
        if not isinstance(messages, (list, tuple)):
            raise DataError("A conversation is a list of messages.", '[{"role": "user", "content": "…"}]')
        if not isinstance(tools, (list, tuple)) or not all(isinstance(tool, dict) for tool in tools):
            raise DataError("Tools are a list of functions.", '[{"type": "function", "function": {"name": …}}]')
        return self.feature.conversation(messages, tools, bool(calls))

    def start(self, inputs: Sequence[Array]) -> TextState:
        """Begin an answer to a text.

        Parameters
        ----------
        inputs : sequence of ndarray, shape (1, 1)
            The text.

        Raises
        ------
        DataError
            If it has more tokens than the model reads.
        """
        text = inputs[0].reshape(-1)[0]
        ids = self.feature.prompt(text.decode(errors="replace") if isinstance(text, bytes) else str(text))
        if not ids:
            raise DataError("The prompt is empty, and the model knows no token that begins a text.", "Give a word.")
        if len(ids) >= self.length:
            raise DataError(
                f"The prompt has {len(ids):,} tokens; the model reads {self.length - 1:,} at most.",
                "Give a shorter one" + (", or the model more --kv-memory." if self._places > self.length else "."),
            )
        slot, common = self._slot_for(ids)
        self._free.remove(slot)
        self._kept[slot] = list(ids[:common])
        return TextState(self, ids, slot, common)

    def _slot_for(self, ids: Sequence[int]) -> tuple[int, int]:
        """A free slot for a prompt, and how many of its tokens are there: from it, another one, or one of before."""
        source, common = self._nearest(ids)
        if common and source in self._free:
            slot = source
        else:
            slot = min(self._free, key=lambda one: (bool(self._kept[one]), self._free.index(one)))
        kept = self._kept[slot]
        if len(kept) >= COMMON and len(kept) > (common if slot == source else 0):
            self._past.keep(kept, lambda start, end: self._engine.save(slot, start, end), self._spare)
        if common and slot != source:
            self._engine.copy(source, slot, common)
        start, found = 0, self._past.find(ids[:-1])
        if sum(shared for _, shared in found) >= max(COMMON, common + 1):
            for block, shared in found:
                if start + shared > common:
                    self._engine.restore(slot, start, block.data, max(0, common - start), shared)
                start += shared
            common = start
        self._past.bound(self._spare)
        return slot, common

    @property
    def _spare(self) -> int:
        """Bytes for texts of before: what the slots have not taken, and will not in the next pass."""
        taken = min(self._engine.touched + PART + self.slots, self.slots * self.length)
        return self._memory - taken * self._engine.token_bytes

    def _nearest(self, ids: Sequence[int]) -> tuple[int, int]:
        """The slot whose text begins most like a prompt, and how many tokens they share; all but one at most."""
        best, most = 0, 0
        for slot, kept in enumerate(self._kept):
            shared = 0
            for one, other in zip(kept, ids[:-1], strict=False):
                if one != other:
                    break
                shared += 1
            if shared > most:
                best, most = slot, shared
        return (best, most) if most >= COMMON else (0, 0)

    def leave(self, state: TextState) -> None:
        """Take back the slot of an answer that ended."""
        self._free.append(state.slot)

    def step(self, states: Sequence[Any]) -> Sequence[Array | None]:
        """One more token of each answer whose prompt was read; and a part of the prompts that were not.

        Parameters
        ----------
        states : sequence of TextState
            At most ``slots``.
        """
        self._past.bound(self._spare)
        found: dict[int, Array] = {}
        done: list[tuple[TextState, int]] = []
        left = PART
        for state in states:
            missing = len(state.ids) - state.read
            if missing < 2 or left < 1:
                continue
            part = state.ids[state.read : state.read + left]
            logits = self._engine.read(state.slot, part, state.read)
            left -= len(part)
            done.append((state, state.read + len(part)))
            if len(part) == missing:
                found[id(state)] = logits
        ready = [state for state in states if len(state.ids) - state.read == 1]
        if ready:
            rows = self._engine.step(
                [state.slot for state in ready], [state.ids[-1] for state in ready], [state.read for state in ready]
            )
            for state, row in zip(ready, rows, strict=True):
                found[id(state)] = row
                done.append((state, len(state.ids)))
        for state, read in done:  # where a pass failed, none of its states has moved
            state.read = read
            self._kept[state.slot] = state.ids[:read]
        return [found.get(id(state)) for state in states]
