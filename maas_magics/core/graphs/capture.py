"""A module as the graph that torch captures of it, by the ways that there are. No exporter."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.core.compat.export import masks_as_told
from maas_magics.core.graphs.reasons import FIXED
from maas_magics.core.networks.blame import is_theirs

BY_PYTHON = (*FIXED, ".numpy() is not supported")
"""Signs of what torch captures through Python alone."""


def captured(module: nn.Module, example: tuple[Tensor, ...], shapes: Any) -> torch.export.ExportedProgram:
    """Program of a module: through its tensors, else through its Python, which is slower but knows ``len(x)``.

    Raises
    ------
    Exception
        Whatever torch raised the first time.
    """
    first: Exception | None = None
    for strict in (False, True):
        try:
            return torch.export.export(module, example, dynamic_shapes=shapes, strict=strict)
        except Exception as error:  # torch raises many unrelated kinds here
            first = first or error
            if not any(sign in str(error) for sign in BY_PYTHON):
                break
    assert first is not None
    raise first


def traced(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: list[str],
    output: str,
    opset: int,
    axes: Mapping[str, Mapping[int, str]],
) -> bytes | None:
    """An ONNX model of what a module does with an example, where that is what it does with any.

    Torch's older exporter knows some layers that the one for programs does not, as packed sequences and distances. It
    sees no Python, and warns where a number became one.

    Parameters
    ----------
    module, example, inputs, output, opset
    axes : mapping
        Axes of each input that are free, and what they are called.

    Returns
    -------
    bytes or None
        None where the module cannot be traced, or torch doubts that the trace is right.
    """
    file = io.BytesIO()
    try:
        with warnings.catch_warnings(record=True) as told, _silent():
            warnings.simplefilter("always")
            torch.onnx.export(
                module,
                example,
                file,  # type: ignore[arg-type]
                dynamo=False,
                opset_version=opset,
                input_names=inputs,
                output_names=[output],
                dynamic_axes={**axes, output: {0: "batch"}},
            )
    except Exception:  # torch raises many unrelated kinds here
        return None
    return None if any(_doubts(warning) for warning in told) else file.getvalue()


def _doubts(warning: warnings.WarningMessage) -> bool:
    """Whether a trace may be wrong for other rows. What torch's own layers test of sizes is checked by them."""
    own = os.path.join(os.path.dirname(torch.nn.__file__), "")
    if warning.category.__name__ == "TracerWarning":
        return is_theirs(warning.filename) or not warning.filename.startswith(own)
    return "incorrect" in str(warning.message)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What torch's exporter writes to the process's own output, as a graph that it gave up, goes nowhere."""
    streams = [(1, sys.stdout), (2, sys.stderr)]
    kept = []
    for number, stream in streams:
        stream.flush()
        kept.append(os.dup(number))
    try:
        with open(os.devnull, "wb") as nowhere:
            for number, _ in streams:
                os.dup2(nowhere.fileno(), number)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for (number, _), before in zip(streams, kept, strict=True):
            os.dup2(before, number)
            os.close(before)


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Layers of attention keep to operators that can be traced.

    Their fast path is one that cannot, and so is a look at whether a mask is causal, which would only save work.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # torch prints the graph of a module that it gives up
        with masks_as_told(), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
