"""torch ``Dataset`` and ``DataLoader``, accepted as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from maas_magics.api.errors import DataError
from maas_magics.api.requests import Task, TrainRequest
from maas_magics.core.architectures import Recipe
from maas_magics.core.data.answers import Answers, infer_task
from maas_magics.core.data.columns import Columns
from maas_magics.core.data.columns import Tensor as TensorColumn
from maas_magics.core.data.scaling import Scaling
from maas_magics.core.data.sources.arrays import column
from maas_magics.core.data.split import split
from maas_magics.core.data.target import TARGET as NAME
from maas_magics.core.data.transform import Transform
from maas_magics.core.manifest import Preprocess
from maas_magics.core.sample import TARGET, digest
from maas_magics.core.training.batches import FromLoader
from maas_magics.core.training.modules import ask, fit_in, make_module
from maas_magics.core.training.prepare import SAMPLE_ROWS, Prepared, held_share

BATCH_SIZE = 32


def is_loader(data: Any) -> bool:
    """Whether it is a torch dataset or loader."""
    return isinstance(data, (DataLoader, Dataset))


def materialise(request: TrainRequest) -> TrainRequest:
    """The same request with every row of its dataset in memory, for architectures that are fitted to data."""
    changes: dict[str, Any] = dict(zip(("data", "target"), _arrays(request.data), strict=True))
    if is_loader(request.validation):
        changes["validation"] = _arrays(request.validation)
    return msgspec.structs.replace(request, **changes)


def _arrays(data: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        x, y = data.tensors
        return x.numpy(), y.numpy()
    loader = data if isinstance(data, DataLoader) else DataLoader(data, batch_size=256)
    parts = [_pair(item) for item in loader]
    if not parts:
        raise DataError("The dataset has no rows.", "Give at least a few rows to learn from.")
    if len(parts[0][0]) != 1:
        raise DataError("An architecture by name takes items (x, y).", "--model NET takes several inputs.")
    return torch.cat([x[0] for x, _ in parts]).numpy(), torch.cat([y for _, y in parts]).numpy()


def _pair(item: Any) -> tuple[tuple[Tensor, ...], Tensor]:
    if not isinstance(item, (list, tuple)) or len(item) < 2 or not all(isinstance(part, Tensor) for part in item):
        raise DataError("Items of the dataset are no (x, y) of tensors.", "Return (x, y) from __getitem__.")
    *inputs, target = item
    return tuple(inputs), target


def prepare_loader(
    request: TrainRequest, task: Task | None, device: torch.device
) -> tuple[nn.Module, Prepared, Recipe, FromLoader, FromLoader | None]:
    """A module, what its data is, and batches of it."""
    train, held = _loaders(request)
    first = next(iter(train), None)
    if first is None:
        raise DataError("The loader yields no batch.", "Give at least a few rows to learn from.")
    inputs, target = _pair(first)
    inputs = tuple(x.float() if x.dtype == torch.float64 else x for x in inputs)
    dataset = train.dataset.dataset if isinstance(train.dataset, Subset) else train.dataset
    columns = Columns(
        tuple(
            TensorColumn(name, tuple(x.shape[1:]), str(x.dtype).removeprefix("torch."))
            for name, x in zip(
                ["x"] if len(inputs) == 1 else [f"x{i + 1}" for i in range(len(inputs))], inputs, strict=True
            )
        )
    )
    width = target.shape[1] if target.dim() == 2 else 1
    task = task or infer_loader_task(target)
    net = make_module(request.model, inputs[0][0].numel(), width)
    net.eval()
    answers = _answers(task, target, net, inputs, getattr(dataset, "classes", None))
    answers = fit_in(net, inputs, answers, [], callable(request.loss))
    encode = _encoder(answers)
    sample = _sample(held or train, columns, encode)
    preprocess = Preprocess(columns=columns, layout="raw", scaling=Scaling())
    empty = torch.empty(0)
    prepared = Prepared(
        preprocess, answers, Transform(columns, "raw", Scaling()), ((empty,), empty), None, sample, digest(sample)
    )
    recipe = Recipe(epochs=20, batch_size=train.batch_size or 1)
    net.to(device)
    held_batches = FromLoader(held, encode, device) if held is not None else None
    return net, prepared, recipe, FromLoader(train, encode, device), held_batches


def infer_loader_task(target: Tensor) -> Task:
    """Task that a batch's target speaks for: whole numbers are labels."""
    if target.dim() == 1 and not target.is_floating_point():
        return "binary" if target.dtype == torch.bool else "multiclass"
    return infer_task(target.numpy()) if target.dim() == 2 else "regression"


def _answers(task: Task, target: Tensor, net: nn.Module, inputs: tuple[Tensor, ...], classes: Any) -> Answers:
    width = target.shape[1] if target.dim() == 2 else 1
    if task == "regression":
        return Answers(task, (NAME,), (), (0.0,) * width, (1.0,) * width, target.dim() == 1)
    if task == "multilabel":
        return Answers(task, tuple(f"{NAME}{i}" for i in range(width)), (False, True), flat=False)
    if task == "binary":
        return Answers(task, (NAME,), (False, True) if target.dtype == torch.bool else (0, 1))
    outputs = ask(net, inputs)
    count = outputs.shape[1] if outputs.dim() == 2 else 0
    names = tuple(map(str, classes)) if classes is not None and len(classes) == count else tuple(range(count))
    return Answers(task, (NAME,), names)


def _encoder(answers: Answers) -> Callable[[Tensor], Tensor]:
    if answers.task == "multiclass":
        return lambda target: target.reshape(-1).long()
    return lambda target: target.float().reshape(len(target), -1)


def _sample(loader: Any, columns: Columns, encode: Callable[[Tensor], Tensor]) -> pa.Table:
    parts: list[tuple[tuple[Tensor, ...], Tensor]] = []
    rows = 0
    for item in loader:
        parts.append(_pair(item))
        rows += len(parts[-1][1])
        if rows >= SAMPLE_ROWS:
            break
    arrays = {
        feature.name: torch.cat([inputs[i] for inputs, _ in parts])[:SAMPLE_ROWS].numpy().astype(feature.dtype)
        for i, feature in enumerate(columns.columns)
        if isinstance(feature, TensorColumn)
    }
    arrays[TARGET] = encode(torch.cat([target for _, target in parts])[:SAMPLE_ROWS]).numpy()
    return pa.table({name: column(values, name) for name, values in arrays.items()})


def _loaders(request: TrainRequest) -> tuple[DataLoader[Any], DataLoader[Any] | None]:
    size, data = request.batch_size if isinstance(request.batch_size, int) else BATCH_SIZE, request.data
    held: DataLoader[Any] | None = None
    share = 0.0
    whole = isinstance(data, (DataLoader, IterableDataset))
    if isinstance(request.validation, DataLoader):
        held = request.validation
    elif isinstance(request.validation, Dataset):
        held = DataLoader(request.validation, batch_size=max(size, 256))
    elif request.validation is None or isinstance(request.validation, (int, float)):
        share = 0.0 if whole and request.validation is None else held_share(request.validation)
    else:
        raise DataError("The validation data of a dataset is a dataset or a loader.", "--validation DATASET")
    if share and whole:
        raise DataError("No share of a loader's rows can be held out.", "--validation LOADER")
    if isinstance(data, DataLoader):
        return data, held
    if isinstance(data, IterableDataset):
        return DataLoader(data, batch_size=size), held
    if not len(data):
        raise DataError("The dataset has no rows.", "Give at least a few rows to learn from.")
    order = torch.Generator().manual_seed(request.seed)
    if share:
        train, validation = split(len(data), share, request.seed, None)
        if len(validation):
            data = Subset(data, train.tolist())
            held = DataLoader(Subset(request.data, validation.tolist()), batch_size=max(size, 256))
    return DataLoader(data, batch_size=size, shuffle=True, generator=order), held
