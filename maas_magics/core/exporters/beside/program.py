"""A version as a program of torch, and as a file that a script in another process makes of it."""

from __future__ import annotations

import copy
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from maas_magics.api.errors import ExportError
from maas_magics.core.compat.export import drop_examples
from maas_magics.core.exporters.examples import example
from maas_magics.core.graphs.capture import captured, plain_attention
from maas_magics.core.graphs.reasons import hint, told
from maas_magics.core.model import Model
from maas_magics.core.networks.modules import title_of
from maas_magics.core.tracing import suppress_torch_logging

SECONDS = 900


def program_of(model: Model, most: int, format: str, single: bool = False) -> torch.export.ExportedProgram:
    """The program from numbers and codes to decoded answers, for up to so many rows.

    Parameters
    ----------
    model : Model
        A version in torch.
    most : int
        Rows of a call; of one, every call has one.
    format : str
        What errors call the format.
    single : bool
        Whether numbers enter, and are computed with, in 32 bits: of a format that knows no others.

    Raises
    ------
    ExportError
        If torch cannot trace the network, or it takes rows of any length.
    """
    if any(spec.open_axes for spec in model.processor.entries):
        raise ExportError(f"{format} has no rows of any length, which this network takes.", "--format onnx")
    inputs, module = example(model), model.exported()
    if single:
        module = copy.deepcopy(module).float()
        inputs = tuple(
            values.float() if feature.joins == "numbers" else values
            for feature, values in zip(model.processor.features, inputs, strict=True)
        )
    axes = tuple({0: torch.export.Dim("batch", min=1, max=most)} for _ in inputs) if most > 1 else None
    if most == 1:
        inputs = tuple(values[:1] for values in inputs)
    try:
        with suppress_torch_logging(), plain_attention():
            program = captured(module, inputs, None if axes is None else (axes,))
    except Exception as error:  # torch raises many unrelated kinds here
        raise ExportError(f"torch cannot trace {title_of(model.net)}: {told(error)}", hint(error)) from error
    drop_examples(program)
    return program


def converted(model: Model, most: int, format: str, script: str, interpreter: str, file: Path) -> None:
    """Have a script of this folder make a file.

    Parameters
    ----------
    model : Model
        A version in torch.
    most : int
        Rows of a call.
    format : str
        What errors call the format.
    script : str
        Name of the script; it gets the program and the file to write.
    interpreter : str
        Python that has what the script imports.
    file : Path
        Where to write.

    Raises
    ------
    ExportError
        If the script fails.
    """
    program = program_of(model, most, format, single=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with TemporaryDirectory(dir=file.parent) as work:
        source = Path(work) / "program.pt2"
        with suppress_torch_logging():
            torch.export.save(program, str(source))
        command = [interpreter, "-P", str(Path(__file__).parent / f"{script}.py"), str(source), str(file)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ExportError(f"{format} cannot be written by {interpreter}: {error}", "--format onnx") from None
    if done.returncode or not file.is_file():
        lines = done.stderr.strip().splitlines() or ["it failed"]
        why = f"its process died with signal {-done.returncode}" if done.returncode < 0 else lines[-1]
        raise ExportError(f"{format} cannot express the network: {why}", "--format onnx")
