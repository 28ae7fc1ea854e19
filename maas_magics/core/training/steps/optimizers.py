"""torch.optim behind one flat buffer: one kernel a step instead of one for each parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from maas_magics.api.errors import OptionError, did_you_mean
from maas_magics.core.training.steps.adam import direct_step

ELEMENTWISE = {"SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta"}
"""Optimizers that treat every weight by itself, so that flattening changes nothing."""


def optimizer_names() -> list[str]:
    """Every optimizer of ``torch.optim``."""
    base = torch.optim.Optimizer
    return sorted(
        name
        for name, kind in vars(torch.optim).items()
        if inspect.isclass(kind) and issubclass(kind, base) and kind is not base
    )


def find_optimizer(name: str) -> type[torch.optim.Optimizer]:
    """Class of ``torch.optim`` by name, in any case.

    Raises
    ------
    OptionError
        If there is none of that name.
    """
    names = optimizer_names()
    exact = next((known for known in names if known.lower() == name.lower()), None)
    if exact is None:
        raise OptionError(f"torch.optim has no optimizer {name!r}.", did_you_mean(name, names))
    found: type[torch.optim.Optimizer] = getattr(torch.optim, exact)
    return found


class Optimizer:
    """A ``torch.optim`` optimizer over the parameters of a module.

    Where the optimizer works weight by weight, each group's parameters become views of one flat
    tensor and their gradients views of another, so a step is one kernel however many layers there are.
    Adam and AdamW on a CPU call that kernel directly; see `direct_step`.

    Parameters
    ----------
    net : nn.Module
        May define ``parameter_groups()``; see `maas_magics.core.architectures.Architecture`.
    name : str
    lr, weight_decay : float
    params : mapping
        Further arguments of the optimizer.
    lr_of : mapping of Parameter to float, optional
        Learning rates of some parameters, in place of ``lr``.
    later : mapping of Parameter to int, optional
        Epochs of parameters that are frozen up to then. They are in the optimizer from the beginning, with no
        gradient, so their state begins when they unfreeze.
    flat : bool
        Whether parameters may become views of one tensor; sharded ones may not.
    """

    def __init__(
        self,
        net: nn.Module,
        name: str,
        lr: float | None,
        weight_decay: float | None,
        params: Mapping[str, Any],
        *,
        lr_of: Mapping[nn.Parameter, float] | None = None,
        later: Mapping[nn.Parameter, int] | None = None,
        flat: bool = True,
    ) -> None:
        kind = find_optimizer(name)
        if kind is torch.optim.SparseAdam:
            raise OptionError("SparseAdam is for sparse gradients, which no network here has.", "--optimizer Adam")
        accepted = inspect.signature(kind).parameters
        unknown = next((key for key in params if key not in accepted or key == "params"), None)
        if unknown is not None:
            raise OptionError(
                f"{kind.__name__} has no argument {unknown!r}.", did_you_mean(unknown, set(accepted) - {"params"})
            )
        options = dict(params)
        if lr is not None:
            options["lr"] = lr
        if weight_decay is not None and "weight_decay" in accepted:
            options["weight_decay"] = weight_decay
        groups = []
        self._grads: list[Tensor] = []
        self._frozen: list[tuple[int, Callable[[], None]]] = []
        learning = False
        for group in _groups(net):
            for (own, epoch), members in _parted(group["params"], lr_of or {}, later or {}).items():
                learning |= not epoch
                if flat and kind.__name__ in ELEMENTWISE:
                    members = self._flatten(members, epoch)
                elif epoch:
                    self._frozen.append((epoch, partial(_let_learn, members)))
                entry: dict[str, Any] = {"params": members}
                if own is not None:
                    entry["lr"] = own
                elif "lr" in options:
                    entry["lr"] = options["lr"] * group.get("lr_factor", 1.0)
                if "weight_decay" in options:
                    entry["weight_decay"] = options["weight_decay"] * group.get("weight_decay_factor", 1.0)
                groups.append(entry)
        if not learning:
            raise OptionError(
                "The network has no trainable parameter" + (" in the first epoch." if groups else "."),
                "Set requires_grad on some of them, or freeze fewer.",
            )
        if (
            "fused" in accepted
            and (flat or kind in (torch.optim.Adam, torch.optim.AdamW))  # no other has a kernel for sharded tensors
            and not options.keys() & {"fused", "foreach", "capturable", "differentiable"}
            and all(p.is_floating_point() for g in groups for p in g["params"])
        ):
            options["fused"] = True
        # An optimizer that searches along a line knows no groups.
        whole = [p for group in groups for p in group["params"]] if kind is torch.optim.LBFGS else groups
        try:
            self.inner = kind(whole, **options)
        except (TypeError, ValueError) as error:
            raise OptionError(f"{kind.__name__} cannot be made: {error}", "--optimizer AdamW") from None
        self.base = [group["lr"] for group in self.inner.param_groups]
        self.needs_closure = bool(accepted.keys() & {"line_search_fn"})
        self.step: Callable[[], Any] = direct_step(self.inner)
        """Update the weights by their gradients."""

    def _flatten(self, members: list[Tensor], epoch: int) -> list[Tensor]:
        """Views of one buffer for each kind of tensor; what learns from an epoch on gets its gradient then."""
        kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for parameter in members:
            kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        flats = []
        for same in kinds.values():
            flat = torch.cat([in_memory_order(parameter.detach()) for parameter in same]).requires_grad_()
            for parameter, data in zip(same, views_like(flat.detach(), same), strict=True):
                parameter.data = data
            flats.append(flat)
            if epoch:
                self._frozen.append((epoch, partial(self._add_gradients, flat, same)))
            else:
                self._add_gradients(flat, same)
        return flats

    def _add_gradients(self, flat: Tensor, members: list[Tensor]) -> None:
        _let_learn(members)
        flat.grad = torch.zeros_like(flat)
        for parameter, grad in zip(members, views_like(flat.grad, members), strict=True):
            parameter.grad = grad
        self._grads.append(flat.grad)

    def unfreeze(self, epoch: int) -> None:
        """Let the parameters learn that do so from this epoch, or an earlier one, on."""
        due = [unfreeze for at, unfreeze in self._frozen if at <= epoch]
        if due:
            self._frozen = [(at, unfreeze) for at, unfreeze in self._frozen if at > epoch]
            for unfreeze in due:
                unfreeze()
            self.step = direct_step(self.inner)

    def zero(self) -> None:
        """Set every gradient to zero."""
        for grad in self._grads:
            grad.zero_()
        if not self._grads:
            self.inner.zero_grad()

    def load(self, state: dict[str, Any], base: list[float]) -> None:
        """Load a state. Where another learning rate is requested, what a schedule made of the first one is kept.

        Raises
        ------
        ValueError
            If it is the state of an optimizer of another kind.
        """
        if [group.keys() for group in state["param_groups"]] != [group.keys() for group in self.inner.param_groups]:
            raise ValueError("it is of an optimizer of another kind")
        self.inner.load_state_dict(state)
        for group, mine, its in zip(self.inner.param_groups, self.base, base, strict=True):
            if mine != its:
                group["lr"] = mine * (group["lr"] / its if its else 1.0)
                group["initial_lr"] = mine

    def gradients(self) -> list[Tensor]:
        """Every gradient of what learns, as few tensors as there are; zeros for a parameter that has none."""
        if self._grads:
            return self._grads
        learning = [p for group in self.inner.param_groups for p in group["params"] if p.requires_grad]
        for parameter in learning:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [parameter.grad for parameter in learning]

    def begin_at(self, lr: float) -> None:
        """Begin with another learning rate; those of other groups keep their share of the first one's."""
        factor = lr / self.first_lr
        self.base = [base * factor for base in self.base]
        self.scale_lr(1.0)

    def scale_lr(self, factor: float) -> None:
        """Set every group's learning rate to ``factor`` times its first one."""
        for group, base in zip(self.inner.param_groups, self.base, strict=True):
            group["lr"] = base * factor

    @property
    def first_lr(self) -> float:
        """Learning rate of the first group before any schedule."""
        return float(self.base[0])

    @property
    def lr(self) -> float:
        """Present learning rate of the first group."""
        return float(self.inner.param_groups[0]["lr"])


def _parted(
    members: Iterable[nn.Parameter], rates: Mapping[nn.Parameter, float], later: Mapping[nn.Parameter, int]
) -> dict[tuple[float | None, int], list[Tensor]]:
    """Members of a group by their own learning rate and the epoch from which on they learn; 0 from the first."""
    parts: dict[tuple[float | None, int], list[Tensor]] = {}
    for parameter in members:
        if parameter.requires_grad or parameter in later:
            parts.setdefault((rates.get(parameter), later.get(parameter, 0)), []).append(parameter)
    # Those without a rate of their own first: the first group's is the one that is reported.
    return dict(sorted(parts.items(), key=lambda part: (part[0][0] is not None, part[0][1])))


def _let_learn(members: list[Tensor]) -> None:
    for parameter in members:
        parameter.requires_grad_()


def channels_last_stride(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """Strides of (n, channels, height, width) in channels-last order, also where there is one channel."""
    _, channels, height, width = shape
    return channels * height * width, 1, width * channels, channels


def _channels_last(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and tensor.stride() == channels_last_stride(tensor.shape) and tensor.numel() > len(tensor)


def in_memory_order(tensor: Tensor) -> Tensor:
    """Numbers of a tensor as one row; a gradient needs the same order as its weight."""
    return (tensor.permute(0, 2, 3, 1) if _channels_last(tensor) else tensor).reshape(-1)


def views_like(flat: Tensor, like: list[Tensor]) -> list[Tensor]:
    """Parts of a row with the shapes and the memory formats of some tensors."""
    views = []
    for tensor, part in zip(like, torch.split(flat, [t.numel() for t in like]), strict=True):
        if _channels_last(tensor):
            n, channels, height, width = tensor.shape
            views.append(part.view(n, height, width, channels).permute(0, 3, 1, 2))
        else:
            views.append(part.view(tensor.shape))
    return views


def _groups(net: nn.Module) -> Iterable[dict[str, Any]]:
    groups: Any = getattr(net, "parameter_groups", None)
    return groups() if callable(groups) else [{"params": list(net.parameters())}]
