"""The random numbers that a module may draw: their state, and the state as plain values."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """States of every generator a module may draw from, in this process's own words; see `packed`."""
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),
        "python": random.getstate(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def packed(state: dict[str, Any]) -> dict[str, Any]:
    """A state of `random_state` as tensors and plain values."""
    if not state:
        return {}
    kind, keys, position, has_gauss, gauss = state["numpy"]
    version, internal, following = state["python"]
    return state | {
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), gauss],
        "python": [version, list(internal), following],
    }


def unpacked(state: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `packed`."""
    if not state:
        return {}
    kind, keys, position, has_gauss, gauss = state["numpy"]
    version, internal, following = state["python"]
    return state | {
        "numpy": (kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss),
        "python": (version, tuple(internal), following),
    }


def restore_random(state: dict[str, Any]) -> None:
    """Set every generator to a state that `random_state` gave."""
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def own_random() -> Iterator[None]:
    """Give numpy's and Python's numbers back as they were; torch's are looked after by who trains."""
    before = random_state()
    try:
        yield
    finally:
        np.random.set_state(before["numpy"])
        random.setstate(before["python"])
