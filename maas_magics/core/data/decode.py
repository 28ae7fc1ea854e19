"""Postprocessing as torch: from outputs to probabilities or quantities. The same code stands in every export."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maas_magics.core.data.answers import Answers


class Decode(nn.Module):
    """From the network's outputs to probabilities, or to numbers in the target's units."""

    def __init__(self, answers: Answers) -> None:
        super().__init__()
        self.task = answers.task
        self.link = answers.decoding
        self.row = list(answers.row)
        self.clamp = bool(answers.low)
        for name in ("low", "high"):
            self.register_buffer(name, torch.tensor(getattr(answers, name), dtype=torch.float32), persistent=False)
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("center", torch.tensor(answers.center, dtype=torch.float32), persistent=False)
        self.register_buffer("scale", torch.tensor(answers.scale, dtype=torch.float32), persistent=False)
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
            values = values * self.scale + self.center
            if self.clamp:
                values = torch.minimum(torch.maximum(values, self.low), self.high)
            return values.reshape(values.shape[0], *self.row).to(torch.float32)
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
    """Encoded target as metrics take it: class indices (n,), labels (n, k), or quantities in their own units (n, k)."""
    if answers.task == "regression":
        return target * target.new_tensor(answers.scale) + target.new_tensor(answers.center)
    return target[:, 0].to(torch.int64) if answers.task == "binary" else target
