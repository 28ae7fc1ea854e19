"""ONNX Runtime's dynamic quantisation without the file that it writes a model to, to infer its shapes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

_LOCK = threading.Lock()


def quantised_in_memory(model: Any, operators: Sequence[str], left: Sequence[str], extra: dict[str, Any]) -> Any:
    """What ``quantize_dynamic`` makes of a model, per channel, of weights of eight bits; nothing is written.

    Private is ``onnx_quantizer.save_and_reload_model_with_shape_infer``, which another function stands for meanwhile.
    Seen in onnxruntime 1.32; where it is called otherwise, a temporary file has the model for a moment.

    Parameters
    ----------
    model : onnx.ModelProto
        Of less than 2 GB.
    operators : sequence of str
        Operators whose weights become integers.
    left : sequence of str
        Names of nodes that are left as they are.
    extra : dict of str to Any
        As ``quantize_dynamic`` takes it.
    """
    from onnxruntime.quantization import QuantType, base_quantizer, onnx_quantizer
    from onnxruntime.quantization.quant_utils import QuantizationMode

    name = "save_and_reload_model_with_shape_infer"
    with _LOCK:
        before = [
            (module, getattr(module, name)) for module in (onnx_quantizer, base_quantizer) if hasattr(module, name)
        ]
        for module, _ in before:
            setattr(module, name, _inferred)
        try:
            made = onnx_quantizer.ONNXQuantizer(
                _inferred(model),
                per_channel=True,
                reduce_range=False,
                mode=QuantizationMode.IntegerOps,
                static=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QUInt8,
                tensors_range=None,
                nodes_to_quantize=[],
                nodes_to_exclude=list(left),
                op_types_to_quantize=list(operators),
                extra_options=extra,
            )
            made.quantize_model()
        finally:
            for module, function in before:
                setattr(module, name, function)
    return made.model.model


def _inferred(model: Any) -> Any:
    import onnx
    from onnxruntime.quantization.quant_utils import add_infer_metadata

    found = onnx.shape_inference.infer_shapes(model)
    add_infer_metadata(found)
    return found
