"""How many tokens of texts each client may have in a minute."""

from __future__ import annotations

import math
import time

from maas_magics.service.gate import Impatient
from maas_magics.service.tokens import Tokens

MINUTE = 60.0

USUAL = 16
"""Tokens that an answer is taken to have where its request says no number; what it has is counted at its end."""

LETTERS = 4
"""Letters that a token of a prompt is taken to have, until it is known how many there are."""


class Allowance:
    """Buckets of tokens, one for each client, which fill as fast as a client may spend them.

    What a request is likely to take is taken at its beginning, and put right at its end.

    Parameters
    ----------
    tokens : Tokens or None
        Clients, of which some have a number of their own.
    per_minute : float
        Tokens a minute of the others; 0 for no limit.
    """

    def __init__(self, tokens: Tokens | None, per_minute: float) -> None:
        self._tokens, self._per_minute = tokens, per_minute
        self._buckets: dict[str, list[float]] = {}

    def take(self, client: str, letters: int, answers: int, most: int | None) -> float:
        """Take what a request may need, and say how much that is.

        Parameters
        ----------
        client : str
            Name of its token.
        letters : int
            Of its prompts.
        answers : int
            How many there will be.
        most : int or None
            Tokens of each at most.

        Raises
        ------
        Impatient
            If the client has to wait; the error says how long.
        """
        limit = self._limit(client)
        if not limit:
            return 0.0
        expected = letters / LETTERS + answers * (USUAL if most is None else most)
        now = time.monotonic()
        bucket = self._buckets.setdefault(client, [limit, now])
        bucket[0] = min(limit, bucket[0] + (now - bucket[1]) * limit / MINUTE)
        bucket[1] = now
        lacking = min(expected, limit) - bucket[0]
        if lacking > 0:
            seconds = max(1, math.ceil(lacking * MINUTE / limit))
            raise Impatient(f"More than {limit:,.0f} tokens a minute.", f"Wait {seconds} s.", seconds)
        bucket[0] -= expected
        return expected

    def settle(self, client: str, expected: float, taken: float) -> None:
        """Put right what was taken for a request, once it is known.

        Parameters
        ----------
        client : str
            Name of its token.
        expected : float
            What `take` took.
        taken : float
            Tokens that it had.
        """
        bucket = self._buckets.get(client)
        if bucket is not None:
            bucket[0] += expected - taken

    def limits(self, client: str) -> bool:
        """Whether a client may have only so many.

        Parameters
        ----------
        client : str
            Name of its token.
        """
        return bool(self._limit(client))

    def _limit(self, client: str) -> float:
        known = self._tokens.named(client) if self._tokens is not None else None
        return known.tokens_per_minute if known is not None and known.tokens_per_minute else self._per_minute
