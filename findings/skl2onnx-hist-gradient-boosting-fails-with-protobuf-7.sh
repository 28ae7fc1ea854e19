#!/usr/bin/env bash
# skl2onnx 1.20 cannot convert scikit-learn's HistGradientBoosting estimators where protobuf 7 is installed: it hands
# numpy's truth values to an attribute of whole numbers (nodes_missing_value_tracks_true), which older ones took.
#
# Seen with skl2onnx 1.20.0, onnx 1.23.2, protobuf 7.36.2, scikit-learn 1.9.1. Ours: core/compat/converters.py.
set -euo pipefail
python - <<'PY'
import numpy as np
from skl2onnx import to_onnx
from sklearn.ensemble import HistGradientBoostingRegressor

X = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
fitted = HistGradientBoostingRegressor(max_iter=2).fit(X, X[:, 0])
try:
    to_onnx(fitted, X[:1], target_opset={"": 20, "ai.onnx.ml": 3})
    print("it converts")
except Exception as error:
    print("it does not:", error.__cause__)
PY
