"""Small tables that are returned to the user."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pyarrow as pa


def frame_of(columns: dict[str, list[Any]]) -> Any:
    """Columns as a pandas DataFrame, or as an Arrow table where pandas is not installed.

    Values of several kinds in one column stay what they are in a DataFrame, and are text in an Arrow table.
    """
    if find_spec("pandas") is not None:
        import pandas as pd

        return pd.DataFrame(columns)
    return pa.table({name: _array(values) for name, values in columns.items()})


def _array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values])
