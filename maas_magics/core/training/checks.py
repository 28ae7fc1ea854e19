"""Figures of a request that make no sense, told before any work is done."""

from __future__ import annotations

import math

import torch
from torch import nn

from maas_magics.api.errors import MaasError, OptionError
from maas_magics.api.requests import TrainRequest
from maas_magics.core.training.loaders import is_loader
from maas_magics.core.training.optimizers import ELEMENTWISE, find_optimizer


def check_request(request: TrainRequest) -> None:
    """Raise for a count, a rate or a model that cannot be meant.

    Raises
    ------
    OptionError
    """
    for name, least in (("epochs", 1), ("batch_size", 1), ("patience", 0), ("threads", 1), ("workers", 1)):
        value = getattr(request, name)
        if value is not None and value < least:
            raise OptionError(
                f"{name.replace('_', ' ')} is {value}; at least {least} was expected.",
                f"--{name.replace('_', '-')} {least}",
            )
    for name in ("lr", "weight_decay", "label_smoothing"):
        value = getattr(request, name)
        if value is not None and not 0 <= value < math.inf:
            raise OptionError(
                f"{name.replace('_', ' ')} is {value:g}; a number of at least 0 was expected.",
                f"--{name.replace('_', '-')} 0.01",
            )
    if request.label_smoothing is not None and request.label_smoothing > 1:
        raise OptionError(
            f"label smoothing is {request.label_smoothing:g}; a share of at most 1 was expected.",
            "--label-smoothing 0.1",
        )
    if not isinstance(request.model, (str, nn.Module)) and not callable(request.model):
        raise MaasError(
            f"The model is of type {type(request.model).__name__}.", "Give an architecture's name or an nn.Module."
        )
    _check_sharing(request)


def _check_sharing(request: TrainRequest) -> None:
    """What cannot be shared between workers, as far as the request alone tells."""
    if request.shard and request.workers == 1:
        raise OptionError("--shard spreads a network over workers, and there is one.", "--workers 2 --shard")
    if request.workers == 1:
        return
    if not torch.distributed.is_available():
        raise OptionError("This build of torch has no torch.distributed.", "--workers 1")
    if not isinstance(request.model, str) and is_loader(request.data):
        raise OptionError(
            "A dataset or loader of your own cannot be shared between workers.",
            "Give the rows as arrays: --data X y, or --workers 1.",
        )
    optimizer = find_optimizer(request.optimizer or "Adam").__name__
    if request.shard and optimizer not in ELEMENTWISE:
        raise OptionError(
            f"{optimizer} looks at several weights at once, which lie with different workers.", "--optimizer AdamW"
        )


def check_workers(request: TrainRequest, device: torch.device, rows: int) -> None:
    """Raise where there are too many workers for a step, or for the devices.

    Parameters
    ----------
    request : TrainRequest
    device : torch.device
    rows : int
        Of a step.

    Raises
    ------
    OptionError
    """
    workers = request.workers
    if workers == 1:
        return
    if workers > rows:
        raise OptionError(f"A step has {rows} rows, too few for {workers} workers.", f"--workers {rows}")
    if device.type not in ("cpu", "cuda"):
        raise OptionError(f"Workers cannot share the device {str(device)!r}.", "--device cpu, or --workers 1")
    there = torch.cuda.device_count()
    if device.type == "cuda" and not (device == torch.device("cuda") and workers <= there):
        raise OptionError(
            f"Each worker takes a GPU of its own, the first {workers}; there are {there}.",
            f"--device cuda --workers {there}",
        )
