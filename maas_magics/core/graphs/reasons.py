"""Why a module cannot be traced, as far as torch reports it, and what would help if known. Not an exporter."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator

from torch import nn

from maas_magics.core.networks.blame import is_theirs, where

DATA_DEPENDENT = (
    "data-dependent",
    "DataDependent",
    "Could not guard on",
    "Could not extract specialized integer",
    "Dynamic control flow is not supported",
)
FIXED = (
    "specialized it to be a constant",
    "inferred to be a constant",
    "tracing inferred a static shape",
)
GUARD = re.compile(r"satisfy the generated guard (.+)")
SIZE = re.compile(r"L\[\S+?\.size\(\)\[0\]")
NO_OPERATOR = re.compile(r"No (?:ONNX function|decompositions).*?aten[.:]+(\w+)|translating node.*?aten[.:]+(\w+)")
ANY_ROWS = "Let its forward take any number of rows: x.shape[0], no constant, no loop over rows."
BRANCHES = (
    "Take data-dependent Python (if, for, .item()) out of its forward: torch.where picks values, torch.cond branches."
)
LAYERS = (os.path.join("torch", "nn", ""), os.path.join("torch", "functional.py"))


def told(error: BaseException) -> str:
    """First line of what an error, or of what caused it, says."""
    missing = _operator(error)
    if missing:
        return f"torch has no ONNX for {missing}"
    whole = _whole(error)
    if any(sign in whole for sign in FIXED):
        return "it fixes the number of rows"
    if found := GUARD.search(whole):
        return f"it holds for some numbers of rows only: {SIZE.sub('rows', found[1]).rstrip('. ')}"[:200]
    texts = [str(found) for found in (error.__cause__ or error.__context__, error) if found is not None]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    line = (lines[0] if lines else type(error).__name__)[:200]
    place = next((found for found in map(where, _chain(error)) if "line " in found), "")
    return f"{line} ({place})"[:280] if place else line


def hint(error: BaseException) -> str:
    """What would let a module be traced; empty where that is not known."""
    whole = _whole(error)
    if is_data_dependent(error):
        return BRANCHES if _by_their_line(error) else ""
    if any(sign in whole for sign in FIXED):
        return ANY_ROWS
    return "--format pt2 keeps all of torch's operators." if _operator(error) else ""


def is_data_dependent(error: BaseException) -> bool:
    """Whether the control flow of a module depends on the numbers that it gets."""
    whole = _whole(error)
    return any(sign in whole for sign in DATA_DEPENDENT)


def _by_their_line(error: BaseException) -> bool:
    """Whether the last frame is a line of the user's, rather than of a layer of torch's or of a library."""
    theirs = True
    for found in _chain(error):
        for frame, _ in traceback.walk_tb(found.__traceback__):
            file, owner = frame.f_code.co_filename, frame.f_locals.get("self")
            layer = isinstance(owner, nn.Module) and frame.f_code.co_name == "forward"
            if is_theirs(file):
                theirs = True
            elif layer or any(part in file for part in LAYERS):
                theirs = False
    return theirs


def _operator(error: BaseException) -> str:
    whole = _whole(error)
    found = NO_OPERATOR.search(whole)
    name = (found[1] or found[2]) if found else ""
    return f"{name} of complex numbers" if name and "complex-valued input" in whole else name


def _whole(error: BaseException) -> str:
    return "\n".join(f"{type(found).__name__}: {found}" for found in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
