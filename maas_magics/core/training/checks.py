"""Values of a request that are out of range, refused before any work is done."""

from __future__ import annotations

import math

import torch
from torch import nn

from maas_magics.api.errors import MaasError, OptionError, did_you_mean
from maas_magics.api.requests import TrainRequest, is_named_split, spec_of
from maas_magics.api.specs import DataSpec, TaskSpec
from maas_magics.core.batches.decoded import parsed_size
from maas_magics.core.batches.loaders import check_loader_workers, is_loader
from maas_magics.core.batches.prepare import SAMPLE_ROWS
from maas_magics.core.data.roles import roles_of
from maas_magics.core.features.augment import parsed as parsed_augment
from maas_magics.core.features.unreadable import share_of
from maas_magics.core.losses.heads import parsed
from maas_magics.core.networks.adapters import LoRA
from maas_magics.core.seal.keys import encrypting_key
from maas_magics.core.tasks import tasks
from maas_magics.core.training.checkpoint import CheckpointInterval
from maas_magics.core.training.steps.optimizers import ELEMENTWISE, find_optimizer
from maas_magics.core.training.steps.precision import PRECISIONS


def check_request(request: TrainRequest) -> None:
    """Raise for a count, a rate or a model that is not valid.

    Raises
    ------
    OptionError
    """
    named = parsed(spec_of(request, TaskSpec))["task"]
    for name in named.values() if isinstance(named, dict) else (named,):
        if name is not None:
            tasks.get(name)
    vectors = bool(request.pairs) or (isinstance(named, str) and tasks.get(named).of_pairs)
    counts = {"batch_size": 1, "patience": 0, "threads": 1, "accumulate": 1, "workers": 1, "loader_workers": 0}
    for name, least in ({"epochs": 0 if vectors else 1} | counts).items():
        value = getattr(request, name)
        if value == "auto" and name == "batch_size":
            continue
        if isinstance(value, str):
            raise OptionError(f"{name.replace('_', ' ')} is {value!r}; a number was expected.", "--batch-size auto")
        if value is not None and value < least:
            raise OptionError(
                f"{name.replace('_', ' ')} is {value}; at least {least} was expected.",
                f"--{name.replace('_', '-')} {least}",
            )
    share_of(request.max_bad)
    parsed_size(request.cache)
    if parsed_augment(request.augment) and is_loader(request.data) and not isinstance(request.model, str):
        raise OptionError("A loader varies its rows itself.", "Drop --augment; give its Dataset a transform.")
    if not 0 <= request.sample <= SAMPLE_ROWS:
        raise OptionError(f"sample is {request.sample:,}; 0 to {SAMPLE_ROWS:,} rows were expected.", "--sample 0")
    for name in ("lr", "weight_decay", "label_smoothing"):
        value = getattr(request, name)
        if value == "auto" and name == "lr":
            continue
        if isinstance(value, str):
            raise OptionError(f"{name} is {value!r}; a number was expected.", "--lr auto finds a learning rate.")
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
    if request.batch_size == "auto" and is_loader(request.data) and not isinstance(request.model, str):
        raise OptionError(
            "A size of batches is found on rows that are given as such, not on a loader's.", "--batch-size 64"
        )
    if not 0 <= request.seed < 2**63:
        raise OptionError(f"seed is {request.seed}; a whole number from 0 was expected.", "--seed 0")
    CheckpointInterval(request.checkpoint_every)
    _check_columns(request)
    _check_steps(request)
    _check_sharing(request)
    _check_adapting(request)
    _check_teacher(request)
    _check_encrypted(request)
    check_loader_workers(request.data, request.loader_workers)
    if request.stream not in (None, True, False):
        raise OptionError(f"stream is {request.stream!r}; True, False or None was expected.", "stream=True")
    if not isinstance(request.model, (str, nn.Module)) and not callable(request.model):
        raise MaasError(
            f"The model is of type {type(request.model).__name__}.", "Give an architecture's name or an nn.Module."
        )


def _check_adapting(request: TrainRequest) -> None:
    """Check what is for pretrained networks, as far as the request alone shows it."""
    if request.lora is not None:
        LoRA.parse(request.lora)
    asked = [word for word, given in (("--probe", request.probe), ("--lora", request.lora is not None)) if given]
    if len(asked) > 1:
        raise OptionError(
            "--probe leaves a pretrained network as it is, and --lora trains adapters in it.", "Drop one of them."
        )
    if request.probe and request.augment:
        raise OptionError(
            "--augment varies rows in each epoch, and --probe looks at each row once.",
            "Drop one of them.",
        )
    if asked and request.unfreeze:
        raise OptionError(
            f"{asked[0]} leaves a pretrained network as it is, and --unfreeze does not.", "Drop one of them."
        )
    if asked and not isinstance(request.model, str):
        raise not_pretrained(asked[0], "a module of your own")
    if asked and request.workers > 1:
        raise OptionError(f"{asked[0]} is for one process.", "--workers 1")


def _check_teacher(request: TrainRequest) -> None:
    """Check what goes with a teacher, as far as the request alone shows it."""
    if not 0 <= request.distill_alpha <= 1:
        raise OptionError(
            f"distill alpha is {request.distill_alpha:g}; a share from 0 to 1 was expected.", "--distill-alpha 0.5"
        )
    if not 0 < request.temperature < math.inf:
        raise OptionError(
            f"The temperature is {request.temperature:g}; a number above 0 was expected.", "--temperature 2"
        )
    if request.teacher is None:
        usual = TaskSpec()
        for name in ("distill_alpha", "temperature"):
            if getattr(request, name) != getattr(usual, name):
                option = f"--{name.replace('_', '-')}"
                raise OptionError(f"{option} is about what a teacher answers, and none was named.", "--teacher NAME")
        return
    alone = {
        "--weights": request.weights is not None,
        "--class-weights": request.class_weights is not None,
        "--workers": request.workers > 1,
        "--pairs": bool(request.pairs),
    }
    word = next((word for word, given in alone.items() if given), None)
    if word is not None:
        raise OptionError(f"--teacher does not go with {word}.", "Drop one of them.")


def _check_encrypted(request: TrainRequest) -> None:
    """Refuse a training that could not be encrypted at its end, or would leave something readable on the way."""
    if not request.encrypt:
        return
    if request.workers > 1:
        raise OptionError("--encrypt is for one process: workers hand weights over in files.", "--workers 1")
    encrypting_key()


def not_pretrained(option: str, name: str) -> OptionError:
    """That an option is for pretrained networks, and this one is not.

    Parameters
    ----------
    option : str
        Such as ``"--probe"``.
    name : str
        Of the architecture.
    """
    return OptionError(f"{option} is for pretrained networks; {name} is not one.", f"--model hf:FOLDER {option}")


def _check_columns(request: TrainRequest) -> None:
    """Check what names columns, as far as that is possible without the data."""
    roles_of(spec_of(request, DataSpec))
    asked = {
        "--weights": request.weights is not None,
        "--drop": bool(request.drop),
        "--features": bool(request.features),
        f"--validation {request.validation}": is_named_split(request.validation),
    }
    word = next((word for word, is_asked in asked.items() if is_asked), None)
    if word is not None and is_loader(request.data):
        raise OptionError(
            f"{word} names a column of a table; a dataset or loader has none.", "Give the rows as a table."
        )
    if request.weights is not None and request.workers > 1:
        raise OptionError("Weighted rows are trained in one process only.", "--workers 1, or drop --weights.")


def _check_steps(request: TrainRequest) -> None:
    """Check the options of steps, as far as that is possible without a network."""
    if request.precision not in (None, *PRECISIONS):
        raise OptionError(
            f"There is no precision {request.precision!r}.", did_you_mean(str(request.precision), PRECISIONS)
        )
    if request.fast not in (None, "auto"):
        raise OptionError(f"--fast {request.fast!r} is not known.", "--fast auto")
    if request.clip is not None and not 0 < request.clip < math.inf:
        raise OptionError(f"clip is {request.clip:g}; a norm above 0 was expected.", "--clip 1")
    if request.ema is not None and not 0 <= request.ema < 1:
        raise OptionError(
            f"ema is {request.ema:g}; a decay between 0 and 1 was expected, or 0 for no average.", "--ema 0.99"
        )
    warmup = request.warmup
    if not 0 <= warmup < math.inf or (warmup > 1 and warmup != int(warmup)):
        raise OptionError(
            f"warmup is {warmup:g}; a share of the training or a whole number of steps was expected.", "--warmup 0.1"
        )
    for pattern, rate in request.lr_of.items():
        if not 0 <= rate < math.inf:
            raise OptionError(
                f"The learning rate of {pattern!r} is {rate:g}; a number of at least 0 was expected.",
                f'--lr-of "{pattern}=1e-3"',
            )
    for pattern, epoch in request.unfreeze.items():
        if epoch < 2:
            raise OptionError(
                f"{pattern!r} is to unfreeze in epoch {epoch}; epochs count from 1, and one must be frozen.",
                f'--unfreeze "{pattern}@2", or do not freeze it.',
            )
    if request.balance and isinstance(request.class_weights, str):
        raise OptionError(
            "Rows that are drawn in balance and balanced class weights would make up for rare labels twice.",
            "Drop --class-weights or --balance.",
        )


def _check_sharing(request: TrainRequest) -> None:
    """Refuse what workers cannot share, as far as the request alone shows it."""
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
    alone = {
        "--compile": bool(request.compile),
        "--fast": request.fast is not None,
        "--profile": request.profile,
    }
    asked = next((word for word, is_asked in alone.items() if is_asked), None)
    if asked is not None:
        raise OptionError(f"{asked} is for one process.", f"--workers 1, or drop {asked}.")
    optimizer = find_optimizer(request.optimizer or "Adam").__name__
    if request.shard and optimizer not in ELEMENTWISE:
        raise OptionError(
            f"{optimizer} looks at several weights at once, which lie with different workers.", "--optimizer AdamW"
        )
