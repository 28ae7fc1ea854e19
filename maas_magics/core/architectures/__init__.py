"""Networks by name. One file for each; a new file registers itself and is tested with the others.

Another package adds one, an `Architecture`, by an entry point of the group ``maas_magics.architectures``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from maas_magics.api.errors import OptionError, did_you_mean
from maas_magics.core.features.fitting import Layout
from maas_magics.core.features.processor import NetworkInputs as NetworkInputs
from maas_magics.core.registry import Registry
from maas_magics.core.tasks.base import Task


def widths(given: int | Sequence[int]) -> tuple[int, ...]:
    """Widths of layers: several, or one.

    Parameters
    ----------
    given : int or sequence of int
        One number stands for one layer.
    """
    return (given,) if isinstance(given, int) else tuple(given)


@dataclass(frozen=True)
class Recipe:
    """How a network is best trained; a request may overrule each value.

    Attributes
    ----------
    optimizer : str
        Name in ``torch.optim``.
    lr, weight_decay : float
    schedule : str
        See `maas_magics.core.training.steps.schedules`.
    epochs, batch_size, patience : int
        A patience of 0 trains all epochs.
    ema : float or None
        Decay of an average of the weights, for steps of ``batch_size`` rows.
    label_smoothing : float
    monitor : str
        Validation metric that chooses the best epoch.
    clamp : bool
        Whether predicted quantities stay within the range of the training rows.
    bf16 : bool
        Whether steps are computed in bf16 where nothing else is asked and the device has instructions for it.
    optimizer_params : mapping
    """

    optimizer: str = "Adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "constant"
    epochs: int = 20
    batch_size: int = 32
    patience: int = 0
    ema: float | None = None
    label_smoothing: float = 0.0
    monitor: str = "loss"
    clamp: bool = False
    bf16: bool = False
    optimizer_params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Architecture:
    """A network by name.

    Attributes
    ----------
    layout : Layout
        What its ``forward`` takes.
    network : callable
        ``network(features, outputs, task=…, **hyperparameters) -> nn.Module``, of a `Task`. The module may define
        ``initialise(*inputs)``, called once with the training rows, ``parameter_groups()``, whose groups may carry
        ``lr_factor`` and ``weight_decay_factor``, and ``parted()``, its
        `maas_magics.core.networks.parted.Parted`. In training mode it may answer (n, members, outputs); the loss is
        then applied to every member.
    recipe : callable
        ``recipe(rows, task) -> Recipe``.
    pretrained : callable, optional
        ``pretrained(ref) -> dict``: the hyperparameters of what ``--model NAME:REF`` names. Its weights are read when
        the module's ``initialise`` is called, and are those of the version from then on.
    given : callable, optional
        ``given(params) -> dict``: what a pretrained network requires of columns, by modality; see `FitConfig`.
    arrays : Layout or None
        What its ``forward`` takes instead where the features are one array of pictures.
    probe : callable, optional
        ``probe(rows, task) -> Recipe`` of what is behind a pretrained part that stays as it is; the network then has
        ``parted()``.
    lora : callable, optional
        ``lora(rows, task) -> Recipe`` of adapters beside a pretrained part; the modules that have such parts name them
        ``pretrained``.
    learns : bool
        Whether the module learns in a way of its own, ``learn(inputs, target, weights, rate, seed)``, which is called
        with all training rows once an epoch, in place of the steps of an optimizer.
    of_pixels : bool
        Whether it answers each pixel of a picture.
    of_texts : bool
        Whether it is for texts: where no column reads like some, what may be text is taken for it.
    suits : mapping of str to int
        Kinds of rows that it is tried on where no one names a network, and training rows from which on it is worth
        more than cheaper ones. Kinds are ``table``, ``pictures`` (arrays), that of a column which reaches a network by
        itself and is the only one (``text``, ``image``, ``audio``), ``mixed``, ``words`` and ``pixels`` (where each has
        a label).
    cost : float
        About how many times as long as the cheapest of its kind it takes: races begin with the cheapest.
    heavy : bool
        Whether it is chosen only where there is an accelerator, or a budget that it fits into.
    requires : str
        Module that has to be installed; empty where none has.
    earlier : tuple of mapping of str to Any
        Hyperparameters, where nothing is requested, that versions were made with which do not say: those of before a
        default was changed.
    """

    layout: Layout
    network: Callable[..., nn.Module]
    recipe: Callable[[int, Task], Recipe]
    pretrained: Callable[[str], dict[str, Any]] | None = None
    given: Callable[[dict[str, Any]], dict[str, dict[str, Any]]] | None = None
    arrays: Layout | None = None
    probe: Callable[[int, Task], Recipe] | None = None
    lora: Callable[[int, Task], Recipe] | None = None
    learns: bool = False
    of_pixels: bool = False
    of_texts: bool = False
    suits: Mapping[str, int] = field(default_factory=dict)
    cost: float = 1.0
    heavy: bool = False
    requires: str = ""
    earlier: tuple[Mapping[str, Any], ...] = ()

    @property
    def defaults(self) -> dict[str, Any]:
        """Hyperparameters with their default values."""
        parameters = inspect.signature(self.network).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "task"}

    def settled(self, net: nn.Module, params: Mapping[str, Any]) -> dict[str, Any]:
        """Hyperparameters of a network that were not requested, as they are.

        Parameters
        ----------
        net : nn.Module
            What `build` made. Those that it settled by its features and task it has as ``settled``, a mapping.
        params : mapping of str to Any
            Hyperparameters of the request.
        """
        found = {**self.defaults, **getattr(net, "settled", {})}
        return {name: value for name, value in found.items() if name not in params}

    def build(self, features: NetworkInputs, task: Task, params: Mapping[str, Any]) -> nn.Module:
        """The network with fresh weights.

        Parameters
        ----------
        features : NetworkInputs
            The columns of the rows.
        task : Task
            The fitted target.
        params : mapping of str to Any
            Hyperparameters, by name; the others have their defaults.

        Raises
        ------
        OptionError
            For a hyperparameter it does not have.
        """
        unknown = next((name for name in params if name not in self.defaults), None)
        if unknown is not None:
            raise OptionError(
                f"This architecture has no hyperparameter {unknown!r}.", did_you_mean(unknown, self.defaults)
            )
        try:
            return self.network(features, task.outputs, task=task, **params).float()  # whatever is the default dtype
        except (TypeError, ValueError, RuntimeError) as error:
            given = ", ".join(f"{name}={value!r}" for name, value in params.items())
            raise OptionError(f"The network cannot be built with {given or 'these features'}: {error}") from None


architectures: Registry[Architecture] = Registry("architecture", __name__, "maas_magics.architectures")


def named_base(model: str, params: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """An architecture by name, and its hyperparameters, of ``NAME`` or ``NAME:REF``.

    Parameters
    ----------
    model : str
        Name of an architecture, with a folder or a name on the hub behind a colon where it is pretrained.
    params : mapping of str to Any
        Hyperparameters of the request.

    Raises
    ------
    OptionError
        If ``REF`` is missing, or the architecture takes none.
    """
    name, colon, ref = model.partition(":")
    if name not in architectures:
        return model, dict(params)
    pretrained = architectures.get(name).pretrained
    if pretrained is None and colon:
        raise OptionError(f"{name} is trained from scratch; it takes no {ref!r}.", f"--model {name}")
    if pretrained is None:
        return model, dict(params)
    if not ref and "base" not in params:
        raise OptionError(f"--model {name} needs a folder or a name.", f"--model {name}:FOLDER, {name}:NAME")
    return name, {**(pretrained(ref) if ref else {}), **params}
