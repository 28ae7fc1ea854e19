"""Models of Keras and TensorFlow: made ONNX files by tf2onnx in a process of its own, and verified there."""
