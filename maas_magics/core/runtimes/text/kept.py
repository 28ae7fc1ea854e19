"""Keys and values of texts whose slot went to others, in blocks that texts which begin alike have once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import Any, NamedTuple

BLOCK = 16
"""Tokens of a block; the last one of a text may have fewer."""

NEAR = 64
"""Blocks behind one that begin alike which are looked at for a part of a block; the newest ones."""

Key = tuple[int, tuple[int, ...]]
"""The block before it, 0 at the beginning of a text, and its own tokens."""


class Block(NamedTuple):
    """Some tokens in a row.

    Attributes
    ----------
    number : int
        Its own.
    key : Key
        What it follows, and its tokens.
    data : Any
        Keys and values, as the engine gave them.
    """

    number: int
    key: Key
    data: Any


class Kept:
    """Beginnings of texts, and what a network made of them; what was wanted longest ago goes first.

    A block is always wanted with those before it, so none is left whose beginning is gone.

    Parameters
    ----------
    token : int
        Bytes of a token's keys and values.
    """

    def __init__(self, token: int) -> None:
        self._token = token
        self.used = 0
        """Bytes of keys and values."""
        self._blocks: OrderedDict[Key, Block] = OrderedDict()
        self._next: dict[tuple[int, int], dict[Key, None]] = {}
        """What follows a block, by its first token."""
        self._numbers = count(1)

    def bound(self, most: int) -> None:
        """Let go of what is more than some bytes.

        Parameters
        ----------
        most : int
            Bytes of keys and values.
        """
        while self._blocks and self.used > most:
            self._drop(next(iter(self._blocks.values())))

    def find(self, ids: Sequence[int]) -> list[tuple[Block, int]]:
        """The blocks that a text begins with, each with how many of its tokens it shares.

        Parameters
        ----------
        ids : sequence of int
            Of the text.
        """
        found = list(self._along(ids))
        self._want([block for block, _ in found])
        return found

    def keep(self, ids: Sequence[int], read: Callable[[int, int], Any], most: int) -> None:
        """Keep a text from its beginning, as far as there is room.

        Parameters
        ----------
        ids : sequence of int
            Of the text.
        read : callable
            From two places to the keys and values between them.
        most : int
            Bytes of all keys and values.
        """
        chain = [block for block, shared in self._along(ids) if shared == len(block.key[1]) == BLOCK]
        self._want(chain)
        mine = {block.number for block in chain}
        for start in range(BLOCK * len(chain), len(ids), BLOCK):
            tokens = tuple(ids[start : start + BLOCK])
            before = chain[-1].number if chain else 0
            near = [self._blocks[key] for key in self._behind(before, tokens)]
            if longer := [block for block in near if block.key[1][: len(tokens)] == tokens]:
                chain.append(longer[0])
                break
            if not self._room(self._token * len(tokens), most, mine):
                break
            for block in near:
                if block.key[1] == tokens[: len(block.key[1])] and block.key in self._blocks:
                    self._drop(block)  # it is the beginning of this one
            block = Block(next(self._numbers), (before, tokens), read(start, start + len(tokens)))
            self._blocks[block.key] = block
            self._next.setdefault((before, tokens[0]), {})[block.key] = None
            self.used += self._token * len(tokens)
            mine.add(block.number)
            chain.append(block)
        self._want(chain)

    def _along(self, ids: Sequence[int]) -> Iterator[tuple[Block, int]]:
        before, at = 0, 0
        while at < len(ids):
            tokens = tuple(ids[at : at + BLOCK])
            block = self._blocks.get((before, tokens))
            if block is None or len(tokens) < BLOCK:
                near = self._behind(before, tokens)
                best = max(near, key=lambda key: _shared(key[1], tokens), default=None)
                if best is not None:
                    yield self._blocks[best], _shared(best[1], tokens)
                return
            yield block, BLOCK
            before, at = block.number, at + BLOCK

    def _behind(self, before: int, tokens: tuple[int, ...]) -> list[Key]:
        return list(islice(reversed(self._next.get((before, tokens[0]), {})), NEAR))

    def _want(self, chain: Sequence[Block]) -> None:
        """The beginning last, so that what follows it goes before it."""
        for block in reversed(chain):
            self._blocks.move_to_end(block.key)

    def _room(self, size: int, most: int, mine: set[int]) -> bool:
        while self.used + size > most:
            oldest = next(iter(self._blocks.values()), None)
            if oldest is None or oldest.number in mine:
                return False
            self._drop(oldest)
        return True

    def _drop(self, block: Block) -> None:
        del self._blocks[block.key]
        self.used -= self._token * len(block.key[1])
        first = (block.key[0], block.key[1][0])
        del self._next[first][block.key]
        if not self._next[first]:
            del self._next[first]


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two begin with alike."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
