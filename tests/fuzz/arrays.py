"""Arrays of every dtype, shape and layout, drawn at random."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

DTYPES = (
    "float32", "float64", "float16", "longdouble", "int8", "int64", "uint8", "uint16", "uint64", "bool", "complex64",
    "datetime64[D]", "datetime64[M]", "datetime64[10s]", "datetime64[ns]", "timedelta64[h]", "timedelta64[us]",
    "U3", "S3", "object", ">f4", ">i8", "V4",
)  # fmt: skip

TORCH = (
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.complex64,
)

SHAPES: tuple[tuple[int, ...], ...] = (
    (),
    (1,),
    (4,),
    (4,),
    (4,),
    (3, 8, 8),
    (1, 8, 8),
    (8, 8),
    (0,),
    (2, 3),
    (1, 1, 1, 1),
)


def draw_array(rng: np.random.Generator, rows: int, *, plain: bool = False) -> Any:
    """An array of ``rows`` rows; with ``plain`` one that a model can take."""
    shape = (rows, *SHAPES[int(rng.integers(len(SHAPES)))]) if not plain else (rows, 4)
    values = 3 * rng.normal(size=shape)
    if rng.random() < 0.3:
        kind = TORCH[int(rng.integers(len(TORCH)))] if not plain else torch.float32
        tensor = torch.from_numpy(np.abs(values)).to(kind)
        how = int(rng.integers(4))
        if how == 1 and tensor.is_floating_point():
            return tensor.requires_grad_()
        if how == 2 and tensor.ndim == 2 and tensor.dtype == torch.float32:
            return tensor.to_sparse()
        return tensor
    name = str(rng.choice(DTYPES)) if not plain else "float32"
    with np.errstate(all="ignore"):
        if np.dtype(name).kind in "mM":
            found = (np.abs(values) * 1000).astype("int64").astype(name)
        elif name == "V4":
            found = np.zeros(shape, dtype="V4")
        else:
            found = np.abs(values).astype(name)
    if found.dtype.kind == "f" and rng.random() < 0.2 and found.size:
        found.reshape(-1)[int(rng.integers(found.size))] = np.nan
    how = int(rng.integers(5))
    if how == 1 and found.dtype.kind in "biuf" and found.size:
        return np.ma.masked_array(found, rng.random(found.shape) < 0.1)
    if how == 2:
        return np.repeat(found, 2, axis=0)[::2]
    if how == 3:
        return np.asfortranarray(found)
    return found.tolist() if how == 4 and rng.random() < 0.5 else found


def draw_target(rng: np.random.Generator, rows: int) -> Any:
    """A target of an array's rows: mostly one that can be learnt."""
    match int(rng.integers(8)):
        case 0:
            return rng.integers(0, 3, rows)
        case 1:
            return rng.normal(size=rows)
        case 2:
            return rng.normal(size=(rows, 2)).astype("float32")
        case 3:
            return rng.integers(0, 2, (rows, 3))
        case 4:
            return rng.choice(["a", "b"], rows)
        case 5:
            return torch.from_numpy(rng.integers(0, 3, rows))
        case _:
            return draw_array(rng, rows)
