"""Files that would run code where they are opened: they are refused, with the line that makes an ONNX file of them."""

from __future__ import annotations

from pathlib import Path

from maas_magics.api.errors import ModelError

OF_TORCH = (".pt", ".pth", ".ckpt", ".bin")

PICKLED = (".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".skops", *OF_TORCH)


def check_pickled(file: Path) -> None:
    """Raise `ModelError` for a file that holds pickled objects, without opening it.

    Parameters
    ----------
    file : Path
        As the user named it.
    """
    kind = "" if file.is_dir() else file.suffix.lower()
    if kind in OF_TORCH:
        raise ModelError(
            f"{file} may hold pickled objects, which run code where they are opened; none is opened here.",
            f"Of a network that you have: torch.onnx.export(net, (x,), '{file.stem}.onnx', dynamo=True)",
        )
    if kind in PICKLED:
        raise ModelError(
            f"{file} holds pickled objects, which run code where they are opened; none is opened here.",
            f"If you trust it: pipe = joblib.load({str(file)!r}), then %maas import pipe --as {file.stem} --sample df",
        )
