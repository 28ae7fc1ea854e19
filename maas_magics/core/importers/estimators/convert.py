"""ONNX graphs of estimators of scikit-learn, XGBoost and LightGBM, by skl2onnx and onnxmltools."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import ModelError, require
from maas_magics.core.compat.converters import converting, inner
from maas_magics.core.data.arrow import is_number, is_text

EXTRA = "maas-magics[sklearn]"

OPSET = {"": 20, "ai.onnx.ml": 3}


def kind_of(estimator: Any) -> str:
    """The library that an object is an estimator of; empty where it is none that can be converted.

    Parameters
    ----------
    estimator : Any
        What the user gave.
    """
    bases = {base.__module__.partition(".")[0] for base in type(estimator).__mro__}
    own = type(estimator).__module__.partition(".")[0]
    if own in ("xgboost", "lightgbm") and hasattr(estimator, "predict"):
        return own
    return "sklearn" if "sklearn" in bases and hasattr(estimator, "predict") else ""


def graphs_of(estimator: Any, table: pa.Table, named: bool) -> Iterator[Any]:
    """Graphs that may answer as an estimator does, the usual one first; the next is tried where one does not.

    Parameters
    ----------
    estimator : Any
        Fitted.
    table : pyarrow.Table
        Sample rows, its columns in the order of the estimator.
    named : bool
        Whether the estimator may ask for columns by their names.

    Raises
    ------
    ModelError
        If it cannot be converted.
    """
    require("skl2onnx", "skl2onnx", "The import of estimators", EXTRA)
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType

    _register()
    estimator = plainer(estimator)
    failed: Exception | None = None
    plain = all(is_number(kind) for kind in table.schema.types)
    made = 0
    for numbers in (FloatTensorType, DoubleTensorType, Int64TensorType):
        whole = [pa.types.is_integer(kind) for kind in table.schema.types]
        if numbers is Int64TensorType and (not any(whole) or (plain and not all(whole))):
            continue
        each = [
            (name, (StringTensorType if is_text(kind) else _of(numbers, kind, FloatTensorType))([None, 1]))
            for name, kind in zip(table.column_names, table.schema.types, strict=True)
        ]
        together = [("X", numbers([None, table.num_columns]))]
        for types in [together, each] if named and plain else [together] if plain else [each]:
            try:
                with warnings.catch_warnings(), converting(estimator):
                    warnings.simplefilter("ignore")
                    found = convert_sklearn(estimator, initial_types=types, target_opset=OPSET)
            except Exception as error:  # converters raise many unrelated kinds
                failed = failed or error
                continue
            made += 1
            yield found
    if not made:
        lines = str(failed).strip().splitlines() or [type(failed).__name__]
        raise ModelError(
            f"skl2onnx makes no graph of {type(estimator).__name__}: {lines[0][:200]}",
            "Take estimators that skl2onnx has converters for: skl2onnx.supported_converters().",
        )


def plainer(estimator: Any) -> Any:
    """A copy that predicts the same, whose settings skl2onnx has converters for.

    Missing texts reach a graph as empty ones, which an imputer then fills. How a vote would transform is left out. What
    is before trees in a pipeline may be computed in 64 bits, and they see it in 32.

    Parameters
    ----------
    estimator : Any
        Fitted.
    """
    from skl2onnx.sklapi import CastTransformer

    try:
        made = copy.deepcopy(estimator)
    except Exception:  # what cannot be copied is converted as it is
        return estimator
    for one in list(inner(made)):
        if hasattr(one, "steps") and _of_32_bits(one.steps[-1][1]):
            one.steps.insert(len(one.steps) - 1, ("in 32 bits", CastTransformer()))
        if hasattr(one, "flatten_transform"):
            one.flatten_transform = False
        if (
            getattr(getattr(one, "statistics_", None), "dtype", None) == np.dtype(object)
            and one.missing_values is np.nan
        ):
            one.missing_values = ""
    return made


def _of_32_bits(estimator: Any) -> bool:
    """Whether an estimator is of trees that compare numbers of 32 bits, which a threshold may equal."""
    if type(estimator).__module__.partition(".")[0] == "xgboost" or hasattr(estimator, "tree_"):
        return True
    trees = getattr(estimator, "estimators_", None)
    return trees is not None and len(trees) > 0 and hasattr(np.asarray(trees, dtype=object).reshape(-1)[0], "tree_")


def _of(numbers: Any, kind: pa.DataType, floats: Any) -> Any:
    """The type of a column of numbers: whole ones alone are whole."""
    return floats if "Int64" in numbers.__name__ and not pa.types.is_integer(kind) else numbers


def _register() -> None:
    """Have skl2onnx know the estimators of XGBoost and LightGBM that are imported here, alone or in a pipeline."""
    import sys

    if not {"xgboost", "lightgbm"} & set(sys.modules):
        return
    require("onnxmltools", "onnxmltools", "The import of boosted trees", EXTRA)
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    if "xgboost" in sys.modules:
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
        from xgboost import XGBClassifier, XGBRegressor

        update_registered_converter(
            XGBClassifier, "MaasXGBClassifier", calculate_linear_classifier_output_shapes, convert_xgboost,
            options=options,
        )  # fmt: skip
        update_registered_converter(
            XGBRegressor, "MaasXGBRegressor", calculate_linear_regressor_output_shapes, convert_xgboost
        )
    if "lightgbm" in sys.modules:
        from lightgbm import LGBMClassifier, LGBMRegressor
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

        update_registered_converter(
            LGBMClassifier, "MaasLGBMClassifier", calculate_linear_classifier_output_shapes, convert_lightgbm,
            options=options,
        )  # fmt: skip
        update_registered_converter(
            LGBMRegressor, "MaasLGBMRegressor", calculate_linear_regressor_output_shapes, convert_lightgbm,
            options={"split": None},
        )  # fmt: skip
