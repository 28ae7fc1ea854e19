"""What ONNX Runtime keeps of a model that it was given as bytes."""

from __future__ import annotations

from typing import Any


def forget_bytes(session: Any) -> None:
    """Let go of the bytes that a session was made of, which it keeps for another choice of processors.

    Private is ``InferenceSession._model_bytes``. Seen in onnxruntime 1.32; without it the bytes stay in memory.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        Open; its processors are not chosen anew.
    """
    if hasattr(session, "_model_bytes"):
        session._model_bytes = None
