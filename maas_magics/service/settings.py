"""How a service is run."""

from __future__ import annotations

from dataclasses import dataclass, field

from maas_magics.service.tokens import Tokens

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Settings:
    """Everything its owner may choose; by default a service of one's own on this machine.

    Attributes
    ----------
    tokens : Tokens or None
        Who may request what; everyone everything when None.
    hosts, origins : frozenset of str
        ``Host`` names it answers to, and web pages that may send it requests; ``*`` for all.
    addresses : bool
        Whether it answers to any IP address as well.
    rate : float
        Requests a second of one token; 0 for no limit.
    body_limit : int
        Most bytes of a request's body, before and after decompression.
    request_memory : int
        Most bytes that all requests hold at a time, with what is made of them and their answers.
    max_batch : int
        Rows in one batch.
    max_delay : float
        Seconds that a request may wait for others to join it.
    queue_limit : int
        Requests that may wait.
    generations : int
        Answers in chunks that may be on their way at a time.
    max_steps : int
        Passes of one such answer; 0 for no limit.
    tokens_per_minute : float
        Tokens of texts, of prompts and answers, that one token may have in a minute; 0 for no limit.
    generation_seconds : float
        Seconds of one such answer; 0 for no limit.
    access_log : str
        File that gets a line of JSON for each request; none when empty.
    """

    tokens: Tokens | None = None
    hosts: frozenset[str] = LOOPBACK
    origins: frozenset[str] = field(default_factory=frozenset)
    addresses: bool = False
    rate: float = 0.0
    body_limit: int = 64 * 2**20
    request_memory: int = 2**30
    max_batch: int = 256
    max_delay: float = 0.0
    queue_limit: int = 4096
    generations: int = 64
    max_steps: int = 65_536
    generation_seconds: float = 3600.0
    tokens_per_minute: float = 0.0
    access_log: str = ""
