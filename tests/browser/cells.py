"""Cells that the browser tests run."""

SETUP = "from thread_job import train, predict; from maas_magics.widgets import watch; import ipykernel"


def training(epochs: int, *, pause: float = 0.01, more: str = "") -> str:
    """Cell that trains for about ``epochs`` × 60 × ``pause`` seconds."""
    return f"watch(train(epochs={epochs}, pause={pause}{more}))"
