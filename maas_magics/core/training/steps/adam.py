"""Adam's kernel, called directly: torch's own way to it costs more than the kernel does for a small network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from maas_magics.core.compat.optimizers import FUSED_ADAM, FUSED_ADAMW


def direct_step(inner: torch.optim.Optimizer) -> Callable[[], Any]:
    """What updates the weights of an optimizer whose gradients stay where they are.

    Parameters
    ----------
    inner : torch.optim.Optimizer
        Every parameter has its gradient already, and keeps that tensor.

    Returns
    -------
    callable
        For Adam and AdamW on a CPU with one parameter in each group, the kernel that ``inner.step()`` would
        call, on the state that ``inner`` keeps: the same weights to the bit. Else ``inner.step``.
    """
    adam, adamw = FUSED_ADAM, FUSED_ADAMW
    if adam is None or adamw is None:
        return inner.step
    if type(inner) not in (torch.optim.Adam, torch.optim.AdamW) or not all(map(_plain, inner.param_groups)):
        return inner.step
    tensors = [([p.detach()], [p.grad]) for group in inner.param_groups for p in group["params"]]

    def step() -> None:
        if len(inner.state) < len(tensors):
            _begin(inner)
        # Groups and state are looked up anew, because `load_state_dict` replaces them.
        for group, (weights, gradients) in zip(inner.param_groups, tensors, strict=True):
            state = inner.state[group["params"][0]]
            state["step"].add_(1)
            beta1, beta2 = group["betas"]
            kernel = adamw if group["decoupled_weight_decay"] else adam
            kernel(
                weights,
                gradients,
                [state["exp_avg"]],
                [state["exp_avg_sq"]],
                [],
                [state["step"]],
                amsgrad=False,
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=group["maximize"],
                grad_scale=None,
                found_inf=None,
            )

    return step


def _begin(inner: torch.optim.Optimizer) -> None:
    """Make the state of weights that have none, as torch does in their first step.

    That step itself would import torch's compiler, which takes a second.
    """
    for group in inner.param_groups:
        [weights] = group["params"]
        if not inner.state[weights]:
            inner.state[weights] = {
                "step": torch.zeros((), dtype=torch.float32, device=weights.device),
                "exp_avg": torch.zeros_like(weights, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(weights, memory_format=torch.preserve_format),
            }


def _plain(group: dict[str, Any]) -> bool:
    members = group["params"]
    return (
        len(members) == 1
        and members[0].device.type == "cpu"
        and members[0].is_floating_point()
        and members[0].grad is not None
        and bool(group["fused"])
        and "decoupled_weight_decay" in group
        and not (group["amsgrad"] or group["capturable"] or group["differentiable"])
    )
