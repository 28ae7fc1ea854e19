"""torch's loggers by name; imports no torch."""

TRACING = (
    "torch.onnx",
    "torch.export",
    "torch.fx.experimental.symbolic_shapes",
    "torch._subclasses.fake_tensor",
    "torch._guards",
    "onnxscript",
)
"""Loggers that write while torch traces. One that does not exist writes nothing. Seen in torch 2.6 to 2.13."""
