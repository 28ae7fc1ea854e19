"""torch ``Dataset`` and ``DataLoader``, accepted as they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

from maas_magics.api.errors import DataError, OptionError, did_you_mean
from maas_magics.api.specs import DataSpec, ModelSpec, Specs, TaskSpec
from maas_magics.core.architectures import Recipe
from maas_magics.core.batches.batches import Batches, FromLoader, InMemory, single
from maas_magics.core.batches.from_dataset import FromDataset
from maas_magics.core.batches.items import Items, items_of
from maas_magics.core.batches.loader_rows import in_order
from maas_magics.core.batches.loader_workers import Readers, check_importable, read_loader
from maas_magics.core.batches.prepare import SAMPLE_ROWS, Prepared
from maas_magics.core.batches.rows import held_share
from maas_magics.core.data.sources.arrays import column
from maas_magics.core.data.split import split
from maas_magics.core.features.modalities.tensor import TensorFeature
from maas_magics.core.features.module import Preprocessing
from maas_magics.core.features.processor import Processor
from maas_magics.core.losses.check import Families, LossRequest, few_rows, fit_loss
from maas_magics.core.losses.heads import Forms, fit_in_heads
from maas_magics.core.losses.own import Form, TargetForm
from maas_magics.core.networks.arguments import arranged
from maas_magics.core.networks.modules import ask, make_module
from maas_magics.core.networks.outputs import Key, SeveralOutputs, chosen_outputs, one_tensor, only_output, pick
from maas_magics.core.store.sample import TARGET, digest
from maas_magics.core.tasks import tasks
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.heads import Heads
from maas_magics.core.tasks.of_batch import infer_batch_task

BATCH_SIZE = 32


def is_loader(data: Any) -> bool:
    """Whether it is a torch dataset or loader."""
    return isinstance(data, (DataLoader, Dataset))


def materialised(said: DataSpec, workers: int | None, seed: int) -> dict[str, Any]:
    """Options with every row of a dataset in memory."""
    check_loader_workers(said.data, workers)
    how = workers or 0, seed, said.target, said.inputs
    found: dict[str, Any] = dict(zip(("data", "target"), _arrays(said.data, *how), strict=True))
    if is_loader(said.validation):
        found["validation"] = _arrays(said.validation, *how)
    return found


def in_memory(specs: Specs) -> Specs:
    """Specs with every row of a dataset in memory, for architectures that are fitted to data.

    Raises
    ------
    DataError
        If it has no rows, or gives several inputs.
    """
    found = materialised(specs.data, specs.run.loader_workers, specs.optimizer.seed)
    if isinstance(found["data"], dict):
        raise DataError("An architecture by name takes items (x, y).", "--model NET takes several inputs.")
    return specs.having("data", **found).having("run", loader_workers=None)


def _arrays(data: Any, workers: int, seed: int, target: Any, inputs: Mapping[str, str]) -> tuple[Any, Any]:
    """An array, or a dict of several, and the target, or a dict of several."""
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        x, y = data.tensors
        return x.numpy(), y.numpy()
    if isinstance(data, (DataLoader, IterableDataset)):
        items = read_loader(data if isinstance(data, DataLoader) else DataLoader(data, batch_size=256))
        every = list(items)
    else:
        with reading((data,), workers) as readers:
            order = torch.arange(len(data))
            every = [read.item for read in readers.read(in_order(0, order, 256, seed))]
    if not every:
        raise DataError("The dataset has no rows.", "Give at least a few rows to learn from.")
    layout = items_of(every[0], target, inputs)
    parts = [layout.parted(item) for item in every]
    arrays = {name: torch.cat([x[i] for x, _ in parts]).numpy() for i, name in enumerate(layout.names)}
    rows = arrays if layout.named or len(arrays) > 1 else arrays["x"]
    targets = [torch.cat(list(part)).numpy() for part in zip(*(layout.targets_of(y) for _, y in parts), strict=True)]
    return rows, dict(zip(layout.heads, targets, strict=True)) if layout.heads else targets[0]


@contextmanager
def reading(parts: tuple[Any, ...], workers: int, pin: bool = False) -> Iterator[Readers]:
    """Readers of map-style datasets, whose workers are gone after the block."""
    readers = Readers(parts, default_collate, workers, pin=pin)
    try:
        yield readers
    finally:
        readers.close()


@contextmanager
def prepared_loader(
    specs: Specs, task: Families | None, device: torch.device, notify: Callable[[str], None]
) -> Iterator[tuple[nn.Module, Prepared, Recipe, Batches, Batches | None]]:
    """A module, what its data is, and batches of it, for as long as the block lasts."""
    data, size = specs.data, specs.budget.batch_size
    size = size if isinstance(size, int) else BATCH_SIZE
    train, held = _sources(data.data, data.validation, size, specs.optimizer.seed)
    parts = tuple(part.data for part in (train, held) if part is not None and part.mapped)
    with reading(parts, specs.run.loader_workers or 0, device.type == "cuda") as readers:
        yield _prepared(data, specs.model, specs.task, task, device, train, held, readers, notify)


def _prepared(
    data: DataSpec,
    model: ModelSpec,
    said: TaskSpec,
    task: Families | None,
    device: torch.device,
    train: LoaderPart,
    held: LoaderPart | None,
    readers: Readers,
    notify: Callable[[str], None],
) -> tuple[nn.Module, Prepared, Recipe, Batches, Batches | None]:
    first = next(train.items(readers), None)
    if first is None:
        raise DataError("The loader yields no batch.", "Give at least a few rows to learn from.")
    items = items_of(first, data.target, data.inputs)
    inputs, target = items.parted(first)
    targets = items.targets_of(target)
    width = sum(part.shape[1] if part.dim() == 2 else 1 for part in targets)
    net = make_module(model.model, inputs[0][:1].numel(), width)
    if items.named:
        net, order = arranged(net, items.names, notify, data.inputs)
        items = items.in_order(order)
        inputs, target = items.parted(first)
    inputs = tuple(single(x) for x in inputs)
    features = [
        TensorFeature(name, row=tuple(x.shape[1:]), dtype=str(x.dtype).removeprefix("torch."))
        for name, x in zip(items.names, inputs, strict=True)
    ]
    processor = Processor.of(features, "raw")
    net.eval()
    few = few_rows(inputs)
    tried = tuple(x[:few] for x in inputs)
    form: Form | Forms | None
    if items.heads:
        answers, form, encode = _fitted_heads(net, items, tried, target, task, model, said, notify)
    else:
        answers, form, encode = _fitted(net, tried, target, task, model, said, train.classes, notify)
    sample = _sample((held or train).items(readers), items, features, encode)
    empty = torch.empty(0)
    prepared = Prepared(
        processor,
        answers,
        Preprocessing(processor),
        ((empty,), empty),
        None,
        sample,
        digest(sample),
        form=form,
    )
    recipe = Recipe(epochs=20, batch_size=train.batch_size)
    net.to(device)
    held_batches = None if held is None else held.batches(readers, items, encode, device)
    return net, prepared, recipe, train.batches(readers, items, encode, device), held_batches


Encode = Callable[[Any], Tensor]
"""From the target of a batch, or one for each head, to what the loss takes."""


def _fitted(
    net: nn.Module,
    inputs: tuple[Tensor, ...],
    target: Tensor,
    task: Families | None,
    model: ModelSpec,
    said: TaskSpec,
    classes: Any,
    notify: Callable[[str], None],
) -> tuple[Task, Form | None, Encode]:
    """The task of a batch's target, as the module and the loss take it."""
    if isinstance(task, Mapping):
        raise OptionError(
            "The losses or tasks are of several targets; there is one.", "Return (x, (y1, y2)), or name one."
        )
    told = infer_batch_task(target, task)
    asked = LossRequest(said.loss, model.outputs, said.task, TargetForm(target.dim(), target.dtype))

    def fit() -> tuple[Task, Form | None, Encode]:
        answers = tasks.get(told).fit_batch(target, lambda: ask(net, inputs), classes)
        few = answers.encode_batch(target)[: len(inputs[0])]
        fitted, form = fit_loss(net, inputs, few, answers, [], asked, notify)
        return fitted, form, answers.encode_batch if told == fitted.task else fitted.encode_batch

    try:
        return fit()
    except SeveralOutputs as several:
        pick(net, [only_output(several.outputs, several.kind)], joined=False)
    return fit()


def _fitted_heads(
    net: nn.Module,
    items: Items,
    inputs: tuple[Tensor, ...],
    targets: tuple[Tensor, ...],
    task: Families | None,
    model: ModelSpec,
    said: TaskSpec,
    notify: Callable[[str], None],
) -> tuple[Task, Forms, Encode]:
    """The tasks of a batch's targets, as the heads of a module and their losses take them."""
    try:
        ask(net, tuple(x[:2] for x in inputs))
    except SeveralOutputs as several:
        found, kind = several.outputs, several.kind
    else:
        raise one_tensor(items.heads)
    chosen = chosen_outputs(found, kind, items.heads)
    strange = next((name for name in task if name not in chosen.names), "") if isinstance(task, Mapping) else ""
    if strange:
        raise OptionError(f"There is no target {strange!r} for a loss or a task.", did_you_mean(strange, chosen.names))
    heads: list[Task] = []
    for name, key, target in zip(chosen.names, chosen.keys, targets, strict=True):
        told = infer_batch_task(target, task.get(name) if isinstance(task, Mapping) else task)
        fitted = tasks.get(told).fit_batch(target, partial(_output, found, key), None)
        heads.append(msgspec.structs.replace(fitted, names=_names(name, fitted.names)))
    pick(net, chosen.keys, joined=True)
    answers = Heads(chosen.names, heads=tuple(heads))
    few = answers.encode_batch(targets)[: len(inputs[0])]
    asked = LossRequest(said.loss, model.outputs, said.task)
    givens = [TargetForm(target.dim(), target.dtype) for target in targets]
    made, forms = fit_in_heads(net, chosen.rows, inputs, few, answers, [], asked, said.loss_weights, givens, notify)
    return made, forms, made.encode_batch


def _output(outputs: Mapping[Key, Tensor], key: Key) -> Tensor:
    return outputs[key]


def _names(head: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return (head,) if len(names) == 1 else tuple(f"{head}{i}" for i in range(len(names)))


@dataclass
class LoaderPart:
    """Rows to learn from, or to validate on.

    Attributes
    ----------
    data : Any
        A ``DataLoader``, or a map-style ``Dataset``.
    batch_size : int
        Rows of a step.
    rows : Tensor
        Which of a dataset's, in order.
    seed : int
    number : int
        Of the dataset among those that are read.
    pace : float
        Seconds that a batch was seen to take.
    """

    data: Any
    batch_size: int
    rows: Tensor = field(default_factory=lambda: torch.empty(0))
    seed: int = 0
    number: int = 0
    pace: float = 0.0

    @property
    def mapped(self) -> bool:
        """Whether it is a map-style dataset."""
        return not isinstance(self.data, DataLoader)

    @property
    def classes(self) -> Any:
        """Names of the labels, if the dataset has any."""
        dataset = self.data if self.mapped else self.data.dataset
        return getattr(dataset.dataset if isinstance(dataset, Subset) else dataset, "classes", None)

    def items(self, readers: Readers) -> Iterator[Any]:
        """Batches as the dataset or loader gives them: in an order of their own, which no epoch is drawn from."""
        if self.mapped:
            order = self.rows[torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(self.seed))]
            asked = in_order(self.number, order, self.batch_size, self.seed)
            found: Iterator[Any] = (read.item for read in readers.read(asked))
        else:
            found = read_loader(self.data)
        begun = time.perf_counter()
        for item in found:
            self.pace = time.perf_counter() - begun
            yield item
            begun = time.perf_counter()

    def batches(self, readers: Readers, items: Items, encode: Encode, device: torch.device) -> Batches:
        """What the loop trains on, or validates."""
        if not self.mapped:
            return FromLoader(self.data, encode, device, self.pace, items)
        tensors = tensors_of(self.data)
        if tensors is None:
            return FromDataset(
                readers,
                self.number,
                self.rows,
                self.batch_size,
                encode,
                device,
                seed=self.seed,
                pace=self.pace,
                items=items,
            )
        *inputs, target = (x.index_select(0, self.rows) for x in tensors)
        return InMemory(tuple(single(x).to(device) for x in inputs), encode(target).to(device), self.batch_size)


def tensors_of(dataset: Any) -> tuple[Tensor, ...] | None:
    """The rows of a dataset that is nothing but tensors in memory; None of another."""
    if type(dataset) is TensorDataset:
        return dataset.tensors
    if type(dataset) is Subset:
        whole = tensors_of(dataset.dataset)
        return None if whole is None else tuple(x[torch.as_tensor(list(dataset.indices))] for x in whole)
    return None


def _sample(batches: Iterator[Any], items: Items, features: list[TensorFeature], encode: Encode) -> pa.Table:
    parts: list[tuple[tuple[Tensor, ...], Tensor]] = []
    rows = 0
    for batch in batches:
        parts.append(items.parted(batch))
        rows += len(parts[-1][0][0])
        if rows >= SAMPLE_ROWS:
            break
    arrays = {
        feature.name: torch.cat([inputs[i] for inputs, _ in parts])[:SAMPLE_ROWS].numpy().astype(feature.dtype)
        for i, feature in enumerate(features)
    }
    arrays[TARGET] = torch.cat([encode(target) for _, target in parts])[:SAMPLE_ROWS].numpy()
    return pa.table({name: column(values, name) for name, values in arrays.items()})


def _sources(data: Any, validation: Any, size: int, seed: int) -> tuple[LoaderPart, LoaderPart | None]:
    held: LoaderPart | None = None
    share = 0.0
    whole = isinstance(data, (DataLoader, IterableDataset))
    if isinstance(validation, Dataset):
        held = _part(validation, max(size, 256), seed, 0 if whole else 1)
    elif isinstance(validation, DataLoader):
        held = LoaderPart(validation, validation.batch_size or 1)
    elif validation is None or isinstance(validation, (int, float)):
        share = 0.0 if whole and validation is None else held_share(validation)
    else:
        raise DataError("The validation data of a dataset is a dataset or a loader.", "--validation DATASET")
    if share and whole:
        raise DataError("No share of a loader's rows can be held out.", "--validation LOADER")
    if isinstance(data, DataLoader):
        return LoaderPart(data, data.batch_size or 1), held
    train = _part(data, size, seed, 0)
    if share:
        learnt, out = split(len(data), share, seed, None)
        if len(out):
            train.rows = torch.from_numpy(learnt)
            held = LoaderPart(data, max(size, 256), torch.from_numpy(out), seed)
    return train, held


def _part(data: Any, size: int, seed: int, number: int) -> LoaderPart:
    if isinstance(data, IterableDataset):
        return LoaderPart(DataLoader(data, batch_size=size), size)
    if not len(data):
        raise DataError("The dataset has no rows.", "Give at least a few rows to learn from.")
    return LoaderPart(data, size, torch.arange(len(data)), seed, number)


def check_loader_workers(data: Any, workers: int | None) -> None:
    """Raise where loader workers are requested that would have nothing to read.

    Raises
    ------
    OptionError
    """
    if workers is None:
        return
    if isinstance(data, DataLoader):
        raise OptionError(
            "A DataLoader has workers of its own.", "DataLoader(…, num_workers=2), and drop --loader-workers."
        )
    if isinstance(data, IterableDataset):
        raise OptionError(
            "Each worker would read all rows of an IterableDataset.", "Drop --loader-workers, or give your DataLoader."
        )
    if not isinstance(data, Dataset):
        return  # whether rows of a table need any is known once they are fitted
    if tensors_of(data) is not None:
        raise no_loader_workers()
    if workers:
        check_importable(data)


def no_loader_workers() -> OptionError:
    """The error for workers that would have nothing to do."""
    return OptionError(
        "Loader workers read a torch Dataset, or columns that are expensive to encode; these rows need none.",
        "Drop --loader-workers.",
    )
