"""Answers in chunks that are on their way: how many there may be, and what each client may have."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from maas_magics.api.errors import GenerationLost
from maas_magics.api.requests import Priority
from maas_magics.api.stream import ChunkStream
from maas_magics.service.allowance import LETTERS, Allowance
from maas_magics.service.budget import Overloaded
from maas_magics.service.gate import Visit
from maas_magics.service.generation import Generation
from maas_magics.service.metered import MeteredStream
from maas_magics.service.metrics import ServiceMetrics
from maas_magics.service.settings import Settings

MOST_ENDED = 256
"""Generations that have ended and are kept for readers that come back."""


class Generations:
    """Those of one service.

    Parameters
    ----------
    settings : Settings
        How many may be on their way at a time, and what each client may have.
    metrics : ServiceMetrics
        Gets why each ended, and how many chunks and tokens there were.
    """

    def __init__(self, settings: Settings, metrics: ServiceMetrics) -> None:
        self._most = settings.generations
        self._metrics = metrics
        self._tokens = settings.tokens
        self._allowance = Allowance(settings.tokens, settings.tokens_per_minute)
        self._known: dict[str, Generation] = {}
        self.live = 0
        """Generations that have not ended."""

    def __iter__(self) -> Iterator[Generation]:
        return iter(list(self._known.values()))

    def reserve(self) -> None:
        """Take a place for one that is about to begin; `begin` or `give_back` follows.

        Raises
        ------
        Overloaded
        """
        if self.live >= self._most:
            raise Overloaded(f"The service generates {self._most} answers at a time.", "Try again in a second.")
        self.live += 1

    def allow(self, visit: Visit, letters: int, answers: int, most: int | None) -> list[float]:
        """Take from what a client may have what some answers are likely to take; `metered` puts it right.

        Parameters
        ----------
        visit : Visit
            The request for them.
        letters : int
            Of the prompts.
        answers : int
            How many there are.
        most : int or None
            Tokens of each at most.

        Raises
        ------
        Impatient
            If the client has to wait.
        """
        return [self._allowance.take(visit.head.client, letters, answers, most) / max(answers, 1)] * answers

    def metered(self, visit: Visit, stream: ChunkStream, expected: float) -> ChunkStream:
        """An answer whose tokens are counted.

        Parameters
        ----------
        visit : Visit
            The request for it.
        stream : ChunkStream
            The answer.
        expected : float
            Tokens that were taken for it.
        """
        client = visit.head.client

        def settled(prompt: int, answer: int) -> None:
            self._allowance.settle(client, expected, prompt + answer)

        return MeteredStream(stream, self._metrics, settled, visit.began)

    def refund(self, visit: Visit, expected: float) -> None:
        """Give back what was taken for an answer that did not begin."""
        self._allowance.settle(visit.head.client, expected, 0.0)

    async def taken(
        self,
        visit: Visit,
        letters: int,
        most: int | None,
        begin: Callable[[], Awaitable[ChunkStream]],
        counted: bool = True,
    ) -> ChunkStream:
        """One answer; see `several`."""
        return (await self.several(visit, letters, most, [begin], counted))[0]

    async def several(
        self,
        visit: Visit,
        letters: int,
        most: int | None,
        begins: Sequence[Callable[[], Awaitable[ChunkStream]]],
        counted: bool = True,
    ) -> list[ChunkStream]:
        """Answers with places, whose tokens are counted; `end` or `begin` gives each place back.

        None is left where one cannot begin.

        Parameters
        ----------
        visit : Visit
            The request for them.
        letters : int
            Of the prompts.
        most : int or None
            Tokens of each at most.
        begins : sequence of callable
            Each begins one.
        counted : bool
            Whether they cost their client tokens.
        """
        taken, expected, streams = 0, list[float](), list[ChunkStream]()
        try:
            for _ in begins:
                self.reserve()
                taken += 1
            expected = self.allow(visit, letters, taken, most) if counted else [0.0] * taken
            for begin in begins:
                stream = await begin()
                streams.append(self.metered(visit, stream, expected.pop()))
        except BaseException:
            for stream in streams:
                stream.close()
            for _ in range(taken):
                self.give_back()
            self.refund(visit, sum(expected))
            raise
        return streams

    def limits(self, visit: Visit) -> bool:
        """Whether the client of a request may have only so many tokens."""
        return self._allowance.limits(visit.head.client)

    @contextmanager
    def paid(self, visit: Visit, letters: int, most: int | None) -> Iterator[Callable[[int], None]]:
        """Rows that a model writes to; what is given is told the letters of the answers, which stand for their tokens.

        Parameters
        ----------
        visit : Visit
            The request for them.
        letters : int
            Of the prompts.
        most : int or None
            Tokens of an answer at most.

        Raises
        ------
        Impatient
            If the client has to wait.
        """
        client, answers = visit.head.client, [0]
        expected = self._allowance.take(client, letters, 1, most)
        try:
            yield answers.append
        finally:
            self._allowance.settle(client, expected, (letters + sum(answers)) / LETTERS)

    def priority(self, visit: Visit, asked: Priority) -> Priority:
        """Priority of a request: for a batch where it, or its client, says so."""
        known = self._tokens.named(visit.head.client) if self._tokens is not None else None
        return "batch" if known is not None and known.priority == "batch" else asked

    def give_back(self) -> None:
        """Give back the place of one that did not begin."""
        self.live -= 1

    def end(self, outcome: str, chunks: int) -> None:
        """Give back the place of one that is not kept here, and say why it ended and how many chunks there were."""
        self._settled(outcome, chunks)

    def begin(self, owner: str, stream: ChunkStream, keep: float, refusal: Callable[[Exception], bytes]) -> Generation:
        """Keep one that begins."""
        found = Generation(secrets.token_hex(12), owner, stream, keep, refusal, self._settled, self._dropped)
        self._known[found.id] = found
        ended = [one for one in self if one.over]
        for one in ended[: max(0, len(ended) - MOST_ENDED)]:
            one.drop()
        return found

    def find(self, id: str, owner: str) -> Generation:
        """One by its id, for the client that requested it.

        Raises
        ------
        GenerationLost
        """
        found = self._known.get(id)
        if found is None or found.owner != owner:
            raise GenerationLost(f"There is no generation {id[:40]!r}, or it is kept no longer.", "Start it again.")
        return found

    def close(self) -> None:
        """Cancel every one."""
        for one in self:
            one.drop()

    def _settled(self, outcome: str, chunks: int) -> None:
        self.live -= 1
        self._metrics.generation(outcome, chunks)

    def _dropped(self, one: Generation) -> None:
        self._known.pop(one.id, None)
