"""Tensors of a request, checked against what a model takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from maas_magics.api.errors import DataError, did_you_mean
from maas_magics.api.signature import DATATYPES, NUMPY, TensorSpec
from maas_magics.core.data.arrow import Array


def fit_inputs(specs: Sequence[TensorSpec], inputs: Mapping[str, Array], missing: Collection[str] = ()) -> list[Array]:
    """Inputs in the order and with the types of the signature.

    Numbers of a narrower kind are widened, and one number a row may come as (n,) instead of (n, 1).

    Parameters
    ----------
    specs : sequence of TensorSpec
    inputs : dict of str to ndarray
        First axis: rows. Numbers that may be missing may come as objects, each float or None.
    missing : collection of str
        Inputs of numbers that may be missing.

    Raises
    ------
    DataError
        If an input is missing, unknown, or of another type or shape, or they differ in length.
    """
    for name in inputs:
        if not any(spec.name == name for spec in specs):
            raise DataError(f"The model has no input {name!r}.", did_you_mean(name, [spec.name for spec in specs]))
    found = []
    for spec in specs:
        if spec.name not in inputs:
            raise DataError(f"The input {spec.name!r} is missing.", f"The model takes {spec}.")
        found.append(_fit(spec, inputs[spec.name], missing))
    if len({len(values) for values in found}) > 1:
        lengths = ", ".join(f"{spec.name!r} has {len(values)}" for spec, values in zip(specs, found, strict=True))
        raise DataError(f"The inputs differ in their number of rows: {lengths}.", "Send as many rows of each.")
    if not len(found[0]):
        raise DataError("The inputs have no rows.", "Send at least one row.")
    return found


def _fit(spec: TensorSpec, values: Array, missing: Collection[str]) -> Array:
    wanted = np.dtype(NUMPY[spec.datatype])
    if values.dtype != wanted:
        if values.dtype.kind == "O" and wanted.kind != "O":
            values = _numbers(spec, values, missing)
        if wanted.kind == "O" or values.dtype.kind == "O" or not np.can_cast(values.dtype, wanted, "same_kind"):
            raise DataError(
                f"The input {spec.name!r} is {DATATYPES.get(str(values.dtype), values.dtype)}; "
                f"{spec.datatype} was expected.",
                f"The model takes {spec}{f', {spec.meaning}' if spec.meaning else ''}.",
            )
        values = values.astype(wanted)
    elif not values.flags.aligned:  # bytes as they came
        values = values.copy()
    if values.ndim == 1 and spec.shape[1:] == (1,):
        values = values.reshape(-1, 1)
    if values.ndim != len(spec.shape) or any(
        size not in (-1, given) for size, given in zip(spec.shape[1:], values.shape[1:], strict=True)
    ):
        raise DataError(f"The input {spec.name!r} has shape {values.shape}.", f"The model takes {spec}.")
    return values


def _numbers(spec: TensorSpec, values: Array, missing: Collection[str]) -> Array:
    """Numbers among which None is; anything else as it came."""
    kinds = {type(value) for value in values.flat}
    if type(None) not in kinds or not kinds <= {float, type(None)}:
        return values
    if spec.name not in missing:
        raise DataError(
            f"A value of the input {spec.name!r} is missing; the model takes none that is.", f"The model takes {spec}."
        )
    return values.astype(np.float64)
