"""Running a trained model, without torch where an ONNX export exists."""
