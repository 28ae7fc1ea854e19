"""Postprocessing as torch: from outputs to probabilities or quantities. The same code stands in every export."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maas_magics.core.data.answers import Answers

TINY = 1e-30
"""Size below which a figure nears the end of float32."""


class Decode(nn.Module):
    """From the network's outputs to probabilities, or to numbers in the target's units.

    Quantities are scaled back in float64: at 5 million ± 1, float32 has steps of a half.
    """

    def __init__(self, answers: Answers) -> None:
        super().__init__()
        self.task = answers.task
        self.link = answers.decoding
        self.row = list(answers.row)
        self.clamp = bool(answers.low)
        self.standardised = answers.standardised
        # ONNX Runtime compares in float32 what is added with 0, and leaves it out.
        self.tiny = any(0 < abs(center) < TINY for center in answers.center)
        for name in ("low", "high", "center", "scale"):
            self.register_buffer(name, torch.tensor(getattr(answers, name), dtype=torch.float64), persistent=False)
        self.low: Tensor
        self.high: Tensor
        self.center: Tensor
        self.scale: Tensor

    def forward(self, outputs: Tensor, rows: int | None = None) -> Tensor:
        """Outputs to probabilities (n, classes), or predictions (n, …).

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
        if self.task == "regression":
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
        values = values.to(torch.float32)
        return torch.cat([1 - values, values], dim=1) if self.task == "binary" else values

    def table(self, outputs: Tensor) -> Tensor:
        """Network outputs as metrics take them: probabilities (n, classes), or quantities (n, k)."""
        values: Tensor = self(outputs)
        return values.reshape(len(values), -1)


def decided(answers: Answers, decoded: Tensor) -> Tensor:
    """Index of the likeliest class (n,), or for several labels a row whether each holds (n, k)."""
    return decoded >= 0.5 if answers.task == "multilabel" else torch.argmax(decoded, dim=1)


def truth(answers: Answers, target: Tensor) -> Tensor:
    """Encoded target as metrics take it: class indices (n,), labels (n, k), or quantities in their own units (n, k).

    Quantities are float64.
    """
    if answers.task == "regression":
        exact = target.to(torch.float64).reshape(len(target), -1)
        return exact * exact.new_tensor(answers.scale) + exact.new_tensor(answers.center)
    return target[:, 0].to(torch.int64) if answers.task == "binary" else target
