"""Cells that the browser tests run: a small network learns the handwritten digits of scikit-learn."""

SETUP = """%load_ext maas_magics
import ipykernel, torch
from sklearn.datasets import load_digits
digits = load_digits(as_frame=True).frame
"""

ENDLESS = 100_000


INTERRUPT = "import _thread, threading\nthreading.Timer(9, _thread.interrupt_main).start()\n"


def training(epochs: int = ENDLESS, *, background: bool = False) -> str:
    """Cell that trains; 100 epochs take a few seconds."""
    more = " --background" if background else ""
    # One thread: two that wait for each other crawl when the browser needs the second core.
    return f"%train digits --data digits --target target --model mlp --epochs {epochs} --patience 0 --threads 1{more}"
