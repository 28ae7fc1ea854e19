"""What torch's own losses take their arguments for, whether given as a module, a function or a partial of one."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from maas_magics.core.compat.dispatch import without_overrides
from maas_magics.core.tasks.base import Family, Link

Target = Literal["index", "like", "signs"]
"""How a loss takes the target: class indices (n,); floats in the shape of the outputs; those as −1 and 1."""


class Takes(NamedTuple):
    """What a loss takes: a family of targets, outputs that ``link`` makes answers of, and the target in a form.

    ``in_any_units`` says that a loss of quantities is the same, but for a factor, in units of their standard deviation.
    """

    family: Family
    link: Link
    target: Target
    in_any_units: bool = False


_QUANTITIES = Takes("quantities", "identity", "like", in_any_units=True)

KNOWN: dict[str, Takes] = {
    "cross_entropy": Takes("classes", "softmax", "index"),
    "nll_loss": Takes("classes", "exp", "index"),
    "multi_margin_loss": Takes("classes", "softmax", "index"),
    "binary_cross_entropy": Takes("labels", "identity", "like"),
    "binary_cross_entropy_with_logits": Takes("labels", "sigmoid", "like"),
    "soft_margin_loss": Takes("labels", "sigmoid", "signs"),
    "multilabel_soft_margin_loss": Takes("labels", "sigmoid", "like"),
    "mse_loss": _QUANTITIES,
    "l1_loss": _QUANTITIES,
    "smooth_l1_loss": _QUANTITIES,
    "huber_loss": _QUANTITIES,
    "poisson_nll_loss": Takes("quantities", "exp", "like"),
    "kl_div": Takes("quantities", "exp", "like"),
}
"""By the name of the function in ``torch.nn.functional``."""

MODULES: dict[type[nn.Module], str] = {
    nn.CrossEntropyLoss: "cross_entropy",
    nn.NLLLoss: "nll_loss",
    nn.MultiMarginLoss: "multi_margin_loss",
    nn.BCELoss: "binary_cross_entropy",
    nn.BCEWithLogitsLoss: "binary_cross_entropy_with_logits",
    nn.SoftMarginLoss: "soft_margin_loss",
    nn.MultiLabelSoftMarginLoss: "multilabel_soft_margin_loss",
    nn.MSELoss: "mse_loss",
    nn.L1Loss: "l1_loss",
    nn.SmoothL1Loss: "smooth_l1_loss",
    nn.HuberLoss: "huber_loss",
    nn.PoissonNLLLoss: "poisson_nll_loss",
    nn.KLDivLoss: "kl_div",
}

LINKS: dict[str, Link] = {
    "softmax": "softmax",
    "log_softmax": "softmax",
    "sigmoid": "sigmoid",
    "logsigmoid": "sigmoid",
    "log": "identity",
}
"""What a loss of the user's takes labels' outputs for, by what it does to them."""

KEEPING = {
    *("clamp", "clamp_min", "clamp_max", "clip", "to", "float", "double", "contiguous", "clone", "reshape", "view"),
    *("squeeze", "unsqueeze", "flatten", "gather", "__getitem__", "permute", "transpose"),
}
"""What leaves outputs what they are."""


def known(loss: Any) -> Takes | None:
    """What a loss takes where it is one of torch's; None of any other."""
    name, keywords = settings_of(loss)
    return _takes(name, keywords) if name else None


def settings_of(loss: Any) -> tuple[str, Mapping[str, Any]]:
    """Name of one of torch's losses, and its settings; no name of any other."""
    keywords: Mapping[str, Any] = {}
    if isinstance(loss, functools.partial):
        loss, keywords = loss.func, loss.keywords
    if isinstance(loss, nn.Module):
        of = dict(loss.named_buffers()) | vars(loss)
        return next((name for kind, name in MODULES.items() if type(loss).forward is kind.forward), ""), of
    name = getattr(loss, "__name__", "")
    return (name, keywords) if name in KNOWN and getattr(functional, name, None) is loss else ("", {})


BY_NAME = {
    "cross_entropy": "--loss cross_entropy",
    "nll_loss": "--loss cross_entropy",  # a log-softmax of log-probabilities is what they are
    "binary_cross_entropy": "--loss bce --outputs probabilities",
    "binary_cross_entropy_with_logits": "--loss bce",
    "mse_loss": "--loss mse",
    "l1_loss": "--loss l1",
    "smooth_l1_loss": "--loss smooth_l1",
    "huber_loss": "--loss huber",
}
"""Words that train with the same loss, of those of torch's with the settings that they come with."""

SETTINGS = {"reduction": "mean", "beta": 1.0, "delta": 1.0, "ignore_index": -100}
UNSET = ("weight", "pos_weight", "size_average", "reduce")
"""Settings that those have, and those that they lack."""


def in_words(loss: Any) -> str:
    """What to type for the same loss; empty where it cannot be typed."""
    name, settings = settings_of(loss)
    smoothing = settings.get("label_smoothing", 0.0)
    usual = all(settings.get(key, value) == value for key, value in SETTINGS.items())
    words = BY_NAME.get(name, "") if usual and all(settings.get(key) is None for key in UNSET) else ""
    return f"{words} --label-smoothing {smoothing:g}" if words and smoothing else words


def _takes(name: str, keywords: Mapping[str, Any]) -> Takes | None:
    found = KNOWN.get(name)
    as_the_target = (name == "poisson_nll_loss" and not keywords.get("log_input", True)) or (
        name == "kl_div" and keywords.get("log_target", False)
    )
    return found._replace(link="identity") if found is not None and as_the_target else found


class Watch(TorchFunctionMode):
    """Records what a loss does to the outputs while it is computed.

    Attributes
    ----------
    found : Takes or None
        Of the first of torch's losses that they are handed to.
    link : Link
        What the first operation on them shows.
    calls : set of str
        Names of all functions that the loss calls.
    settings : mapping
        Of that loss.
    ignored : int or None
        The label that one of torch's losses ignores.
    broadcasts : bool
        Whether a loss that takes both in one shape was handed them in two.
    one_hot : bool
        Whether a loss for quantities was handed a row for each label, 1 in its place and 0 elsewhere.
    """

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.found: Takes | None = None
        self.link: Link = ""
        self.calls: set[str] = set()
        self.settings: Mapping[str, Any] = {}
        self.ignored: int | None = None
        self.broadcasts = self.one_hot = False
        self._outputs = [outputs]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function, and look at what it is given."""
        kwargs = kwargs or {}
        first = args[0] if args else kwargs.get("input")
        name = getattr(func, "__name__", "")
        ours = not self.link and isinstance(first, Tensor) and self._is_output(first)
        self.calls.add(name)
        if "ignore_index" in kwargs:
            self.ignored = int(kwargs["ignore_index"])
        if ours and name in KNOWN:
            self.found, self.settings = _takes(name, kwargs), kwargs
            self.link = KNOWN[name].link if self.found is None else self.found.link
            second = args[1] if len(args) > 1 else kwargs.get("target")
            if KNOWN[name].target == "like" and isinstance(second, Tensor):
                self.broadcasts = first.shape != second.shape
                self.one_hot = KNOWN[name].family == "quantities" and _is_one_hot(second)
        elif ours:
            self.link = LINKS.get(name, "")
        answer = func(*args, **kwargs)
        plain = name in ("add", "__add__", "__radd__") and not any(isinstance(x, Tensor) for x in args[1:])
        if ours and (name in KEEPING or plain) and isinstance(answer, Tensor):
            self._outputs.append(answer)
        return answer

    def _is_output(self, tensor: Tensor) -> bool:
        with without_overrides():
            place = tensor.untyped_storage().data_ptr()
            return any(kept.untyped_storage().data_ptr() == place for kept in self._outputs)


def _is_one_hot(target: Tensor) -> bool:
    with without_overrides():
        if target.dim() != 2 or target.shape[1] < 2:
            return False
        whole = (target == 0) | (target == 1)
        return bool(whole.all()) and bool((target.sum(dim=1) == 1).all())
