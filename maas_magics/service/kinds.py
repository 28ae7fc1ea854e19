"""What values of each datatype are in JSON, and what reads them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any, Optional

import msgspec
import numpy as np

from maas_magics.api.signature import NUMPY

DTYPES = {datatype: np.dtype(name) for datatype, name in NUMPY.items()}


def _kind(dtype: np.dtype[Any]) -> Any:
    """What a value of a type is in JSON."""
    if dtype.kind == "f":
        most = float(np.finfo(dtype).max)
        return Annotated[float, msgspec.Meta(ge=-most, le=most)]
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        most_whole = min(int(info.max), 2**63 - 1)  # msgspec compares with no larger ones
        return Annotated[int, msgspec.Meta(ge=int(info.min), le=None if dtype == np.uint64 else most_whole)]
    return bool if dtype.kind == "b" else str


_KINDS = {datatype: _kind(dtype) for datatype, dtype in DTYPES.items()}


def _or_null(datatype: str) -> Any:
    kind: Any = _KINDS[datatype]
    return Optional[kind]  # noqa: UP045  (an annotated kind has no |)


WITH_NULL: dict[str, Any] = {name: _or_null(name) for name, dtype in DTYPES.items() if dtype.kind in "fO"}
"""Kinds of the datatypes that have a word for a missing value: no number, and the empty text."""

NULL = re.compile(rb"\bnull\b")


def list_of(datatype: str, null: bool = False) -> Any:
    """What a flat list of values of a datatype, or null among them, is in JSON."""
    kind: Any = (WITH_NULL if null else _KINDS)[datatype]
    return list[kind]


FLAT = {datatype: msgspec.json.Decoder(list_of(datatype)) for datatype in _KINDS}
FLAT_WITH_NULL = {datatype: msgspec.json.Decoder(list_of(datatype, null=True)) for datatype in WITH_NULL}


@lru_cache(1_000)
def nested(datatype: str, shape: tuple[int, ...], null: bool = False) -> msgspec.json.Decoder[Any]:
    """Decoder of lists in lists, as long as a shape says."""
    kind: Any = (WITH_NULL if null else _KINDS)[datatype]
    for length in reversed(shape):
        kind = Annotated[list[kind], msgspec.Meta(min_length=length, max_length=length)]
    return msgspec.json.Decoder(kind)
