"""ONNX files of any maker become versions: their inputs as columns, their outputs as answers of a task."""
