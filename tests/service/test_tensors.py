"""Tensors of every datatype, from JSON and bytes to arrays and back."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maas_magics.api.errors import DataError
from maas_magics.api.signature import NUMPY
from maas_magics.service.tensors import DATATYPES, of_bytes, of_json, to_bytes

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


def values(datatype: str) -> st.SearchStrategy[Any]:
    dtype = np.dtype(NUMPY[datatype])
    if dtype.kind == "f":
        return st.floats(width=8 * dtype.itemsize, allow_nan=False, allow_infinity=False)  # type: ignore[call-overload]
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return st.integers(int(info.min), int(info.max))
    return st.booleans() if dtype.kind == "b" else st.text(st.characters(exclude_categories=["Cs"]), max_size=9)


@st.composite
def arrays(draw: Any) -> tuple[str, np.ndarray[Any, Any]]:
    datatype, shape = draw(st.sampled_from(list(NUMPY))), draw(SHAPES)
    size = int(np.prod(shape))
    flat = np.empty(size, np.dtype(NUMPY[datatype]))
    flat[:] = draw(st.lists(values(datatype), min_size=size, max_size=size))
    return datatype, flat.reshape(shape)


@settings(max_examples=300, deadline=None)
@given(arrays(), st.booleans())
def test_what_is_written_is_what_is_read(given_: tuple[str, np.ndarray[Any, Any]], nested: bool) -> None:
    datatype, array = given_
    found = [of_bytes("x", datatype, array.shape, memoryview(to_bytes(array)))]
    written = json.dumps(array.tolist() if nested else array.ravel().tolist()).encode()
    found.append(of_json("x", datatype, array.shape, written))
    for one in found:
        assert one.dtype == array.dtype and one.shape == array.shape and one.tolist() == array.tolist()
        assert DATATYPES[one.dtype] == datatype


@pytest.mark.parametrize("datatype", list(NUMPY))
def test_the_bounds_of_a_datatype(datatype: str) -> None:
    dtype = np.dtype(NUMPY[datatype])
    if dtype.kind in "iu":
        lowest, highest = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        assert of_json("x", datatype, (2,), b"[%d,%d]" % (lowest, highest)).tolist() == [lowest, highest]
        for beyond in (lowest - 1, highest + 1):
            for told in (b"[%d]", b"[[%d]]"):
                with pytest.raises(DataError, match=f"does not fit {datatype}"):
                    of_json("x", datatype, (1, 1), told % beyond)
    elif dtype.kind == "f":
        most = float(np.finfo(dtype).max)
        assert of_json("x", datatype, (1,), json.dumps([most]).encode()).tolist() == [most]
        with pytest.raises(DataError, match="does not fit"):
            of_json("x", datatype, (1,), b"[1e400]" if dtype.itemsize == 8 else json.dumps([most * 2]).encode())


@pytest.mark.parametrize(
    ("datatype", "told"),
    [(datatype, told) for datatype in NUMPY for told in ("[null]", '["1"]', "[[]]", "[{}]", "{}", "1", "null", "[1,2]", "")],
)  # fmt: skip
def test_what_is_not_of_the_datatype_is_refused(datatype: str, told: str) -> None:
    if (datatype, told) == ("BYTES", '["1"]') or (told == "[null]" and np.dtype(NUMPY[datatype]).kind in "fO"):
        return
    with pytest.raises(DataError):
        of_json("x", datatype, (1, 1), told.encode())


@pytest.mark.parametrize("datatype", [name for name in NUMPY if np.dtype(NUMPY[name]).kind == "f"])
@pytest.mark.parametrize("told", ["[1.5,null,null,-2]", "[[1.5,null],[null,-2]]", "[ 1.5 , null,null,-2 ]"])
def test_a_number_that_is_missing_is_null(datatype: str, told: str) -> None:
    found = of_json("x", datatype, (2, 2), told.encode())
    assert found.dtype == object and found.tolist() == [[1.5, None], [None, -2.0]]


def test_numbers_beside_one_that_is_missing_are_as_exact_as_their_datatype() -> None:
    assert of_json("x", "FP32", (2,), b"[0.1,null]").tolist() == [float(np.float32(0.1)), None]
    assert of_json("x", "FP64", (2,), b"[0.1,null]").tolist() == [0.1, None]
    with pytest.raises(DataError, match="does not fit FP32"):
        of_json("x", "FP32", (2,), b"[1e39,null]")


def test_a_text_that_is_missing_is_null_or_empty() -> None:
    for told in (b'["a",null,"null",""]', b'[["a",null],["null",""]]'):
        assert of_json("x", "BYTES", (2, 2), told).tolist() == [["a", ""], ["null", ""]]


def test_many_numbers_some_of_which_are_missing() -> None:
    values = [None if place % 7 == 3 else place + 0.25 for place in range(300_000)]
    found = of_json("x", "FP64", (300_000, 1), json.dumps(values).encode())
    assert found.ravel().tolist() == values


@pytest.mark.parametrize("datatype", [name for name in NUMPY if np.dtype(NUMPY[name]).kind in "iub"])
def test_what_cannot_be_missing_is_told_with_what_to_send(datatype: str) -> None:
    with pytest.raises(DataError, match=f"are not {datatype}") as caught:
        of_json("x", datatype, (2,), b"[1,null]" if datatype != "BOOL" else b"[true,null]")
    assert "null in FP32, FP64 and BYTES only" in caught.value.hint
    assert ("A missing time is -9223372036854775808" in caught.value.hint) == (datatype == "INT64")


def test_half_precision_of_the_other_kind_comes_in_binary_only() -> None:
    exact = np.array([1.0, -2.5, 0.0, 3e38], np.float32)
    halves = (exact.view("<u4") >> 16).astype("<u2").tobytes()
    found = of_bytes("x", "BF16", (2, 2), memoryview(halves))
    assert found.dtype == np.float32 and found.shape == (2, 2)
    np.testing.assert_allclose(found.ravel(), exact, rtol=1 / 128)
    with pytest.raises(DataError, match="'BF16'"):
        of_json("x", "BF16", (1,), b"[1.0]")


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_bytes_that_begin_anywhere_become_an_array_that_is_aligned(shift: int) -> None:
    data = memoryview(b"\0" * shift + np.arange(4, dtype="<f8").tobytes())[shift:]
    found = of_bytes("x", "FP64", (4,), data)
    assert found.flags.aligned and found.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\0\0", b"\1\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\0\0", b"\1\0\0\0ab"],
)
def test_texts_that_do_not_hold_together(data: bytes) -> None:
    with pytest.raises(DataError):
        of_bytes("x", "BYTES", (1,), memoryview(data))


def test_what_is_no_utf_8_stays_bytes_which_a_model_of_files_takes_and_one_of_texts_refuses() -> None:
    found = of_bytes("x", "BYTES", (2,), memoryview(b"\1\0\0\0a\1\0\0\0\xff"))
    assert found.tolist() == [b"a", b"\xff"]  # all of them, so that the first one shows it


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
@pytest.mark.parametrize("part", [b"[],", b"[[[]]],", b"0,", b'"",'])
def test_values_that_are_too_many_cost_little(part: bytes, datatype: str) -> None:
    """Ten megabytes for a tensor of 64 values: refused before they are made where they can be counted."""
    data = b"[" + part * (10_000_000 // len(part)) + part[:-1] + b"]"
    began = time.process_time()
    with pytest.raises(DataError):
        of_json("x", datatype, (1, 64), data)
    assert time.process_time() - began < 2.0


def test_a_time_in_quotes_is_told_what_it_is_sent_as() -> None:
    with pytest.raises(DataError) as caught:
        of_json("when", "INT64", (1, 1), b'["2024-01-01"]')
    assert "microseconds since 1970-01-01" in caught.value.hint
