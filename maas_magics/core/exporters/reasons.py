"""Why a module cannot be traced, as far as torch tells, and what would help where that is known. No exporter."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator

DATA_DEPENDENT = (
    "data-dependent",
    "DataDependent",
    "Could not guard on",
    "Could not extract specialized integer",
    "Dynamic control flow is not supported",
)
FIXED = ("Constraints violated", "specialized it to be a constant", "inferred to be a constant")
NO_OPERATOR = re.compile(r"No (?:ONNX function|decompositions).*?aten[.:]+(\w+)|translating node.*?aten[.:]+(\w+)")


def told(error: BaseException) -> str:
    """First line of what an error, or of what caused it, says."""
    missing = _operator(error)
    if missing:
        return f"ONNX has no {missing}"
    texts = [str(found) for found in (error.__cause__ or error.__context__, error) if found is not None]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def hint(error: BaseException) -> str:
    """What would let a module be traced; nothing where that is not known."""
    text = "\n".join(_chain(error))
    if any(sign in text for sign in DATA_DEPENDENT):
        return "Take data-dependent Python (if, for, .item()) out of its forward."
    if any(sign in text for sign in FIXED):
        return "Let its forward take any number of rows: x.shape[0], not a constant."
    return "--format pt2 keeps all of torch's operators." if _operator(error) else ""


def _operator(error: BaseException) -> str:
    found = NO_OPERATOR.search("\n".join(_chain(error)))
    return (found[1] or found[2]) if found else ""


def _chain(error: BaseException | None) -> Iterator[str]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield f"{type(error).__name__}: {error}"
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Encoders of torch keep to operators that can be traced: their fast path is one that cannot."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # torch prints the graph of a module that it gives up
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
