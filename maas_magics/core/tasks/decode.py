"""Postprocessing as torch: from outputs to probabilities or quantities. The same code stands in every export."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maas_magics.core.tasks.base import Link, Task

TINY = 1e-30
"""Size below which a value nears the end of float32."""


class Decode(nn.Module):
    """From the network's outputs to probabilities, (n, classes)."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.link = task.decoding

    def forward(self, outputs: Tensor, rows: int | None = None) -> Tensor:
        """Outputs to decoded answers.

        Parameters
        ----------
        outputs : Tensor
            (n, …), or anything with as many numbers where ``rows`` is given: a network that squeezes leaves a single
            row without its axis.
        rows : int, optional
            How many there are.
        """
        values = outputs.reshape(outputs.shape[0] if rows is None else rows, -1)
        if self.link == "softmax":
            values = torch.softmax(values, dim=1)
        elif self.link == "sigmoid":
            values = torch.sigmoid(values)
        elif self.link == "exp":
            values = torch.exp(values)
        return self.answers(values)

    def answers(self, values: Tensor) -> Tensor:
        """Decoded answers of values, (n, k), that the link has made of outputs."""
        return values.to(torch.float32)


class DecodeBoth(Decode):
    """From the probability of the second of two labels to those of both, (n, 2)."""

    def answers(self, values: Tensor) -> Tensor:
        """Both probabilities."""
        values = values.to(torch.float32)
        return torch.cat([1 - values, values], dim=1)


class DecodePositions(nn.Module):
    """From outputs at each position to probabilities, (n, …, classes)."""

    def __init__(self, link: Link, axes: tuple[int, ...], classes: int, last: bool) -> None:
        super().__init__()
        self.link, self.axes, self.classes, self.last = link, list(axes), classes, last

    def forward(self, outputs: Tensor, rows: int | None = None) -> Tensor:
        """Outputs, (n, classes, …) or (n, …, classes), to probabilities."""
        n = outputs.shape[0] if rows is None else rows
        if self.last:
            values = outputs.reshape(n, -1, self.classes)
        else:
            values = outputs.reshape(n, self.classes, -1).transpose(1, 2)
        if self.link == "softmax":
            values = torch.softmax(values, dim=2)
        elif self.link == "exp":
            values = torch.exp(values)
        return values.to(torch.float32).reshape(n, *self.axes, self.classes)


class DecodeWords(nn.Module):
    """From outputs for each word to probabilities, (n, words, classes)."""

    def forward(self, outputs: Tensor, rows: int | None = None) -> Tensor:
        """Outputs, (n, words, classes), to probabilities."""
        return torch.softmax(outputs, dim=-1).to(torch.float32)


class DecodeVectors(nn.Module):
    """From vectors of any length, (n, size), to vectors of length 1."""

    def forward(self, outputs: Tensor, rows: int | None = None) -> Tensor:
        """Outputs, (n, size), to vectors."""
        values = outputs.reshape(outputs.shape[0] if rows is None else rows, -1)
        return torch.nn.functional.normalize(values.to(torch.float32), dim=1)


class DecodeHeads(nn.Module):
    """From the outputs of several heads, side by side, to their decoded answers, side by side.

    Parameters
    ----------
    heads : sequence of nn.Module
        What decodes each.
    widths : sequence of int
        Numbers of a row of outputs, by head.
    double : bool
        Whether answers are float64.
    """

    def __init__(self, heads: Sequence[nn.Module], widths: Sequence[int], double: bool) -> None:
        super().__init__()
        self.heads, self.widths = nn.ModuleList(heads), list(widths)
        self.dtype = torch.float64 if double else torch.float32

    def forward(self, outputs: Tensor, rows: int | None = None) -> Tensor:
        """Outputs, (n, numbers), to decoded answers, (n, numbers)."""
        n = outputs.shape[0] if rows is None else rows
        parts = torch.split(outputs.reshape(n, -1), self.widths, dim=1)
        decoded = [head(part, rows) for head, part in zip(self.heads, parts, strict=True)]
        return torch.cat([part.reshape(n, -1).to(self.dtype) for part in decoded], dim=1)


class DecodeQuantities(Decode):
    """To numbers in the target's units, (n, …).

    They are scaled back in float64: at 5 million ± 1, float32 has steps of a half.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.row = list(task.row)
        self.clamp = bool(task.low)
        self.standardised = task.standardised
        # ONNX Runtime compares in float32 what is added with 0, and leaves it out.
        self.tiny = any(0 < abs(center) < TINY for center in task.center)
        for name in ("low", "high", "center", "scale"):
            self.register_buffer(name, torch.tensor(getattr(task, name), dtype=torch.float64), persistent=False)
        self.low: Tensor
        self.high: Tensor
        self.center: Tensor
        self.scale: Tensor

    def answers(self, values: Tensor) -> Tensor:
        """Scaled back, and kept in range."""
        if self.standardised:
            values = values.to(torch.float64)
            if self.tiny:
                values = (values + self.center / self.scale) * self.scale
            else:
                values = values * self.scale + self.center
        else:
            values = values.to(torch.float32)
        if self.clamp:
            low, high = self.low.to(values.dtype), self.high.to(values.dtype)
            values = torch.minimum(torch.maximum(values, low), high)
        return values.reshape(values.shape[0], *self.row)


class AsTheyAre(nn.Module):
    """Outputs that are answers already."""

    def forward(self, outputs: Tensor, rows: int | None = None) -> Tensor:
        """The outputs."""
        return outputs
