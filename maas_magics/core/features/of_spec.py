"""A feature for an input that a server of another make declares."""

from __future__ import annotations

import pyarrow as pa

from maas_magics.api.signature import NUMPY, TensorSpec
from maas_magics.core.data.arrow import is_moment
from maas_magics.core.features.base import Feature
from maas_magics.core.features.modalities.category import Category
from maas_magics.core.features.modalities.number import Number
from maas_magics.core.features.modalities.tensor import TensorFeature
from maas_magics.core.features.modalities.timestamp import Timestamp


def of_spec(spec: TensorSpec, table: pa.Table) -> Feature:
    """What encodes a column of a table as an input requests it."""
    kind = table.schema.field(spec.name).type if spec.name in table.column_names else None
    if spec.datatype == "BYTES":
        return Category(spec.name, ())
    if isinstance(kind, pa.FixedShapeTensorType):
        return TensorFeature(spec.name, row=tuple(kind.shape), dtype=NUMPY[spec.datatype])
    if kind is not None and is_moment(kind):
        return Timestamp(spec.name)
    return Number(spec.name)
