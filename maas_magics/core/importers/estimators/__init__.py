"""Fitted estimators of a notebook become versions: converted to ONNX, and compared with the estimator itself."""
