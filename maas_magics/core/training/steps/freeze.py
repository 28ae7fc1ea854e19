"""Parameters that stay as they are, for good or up to an epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from maas_magics.api.errors import OptionError
from maas_magics.core.compat.modules import is_norm
from maas_magics.core.training.steps.patterns import matching

NEVER = 0
"""Epoch of what is never unfrozen."""


class Freezing:
    """Which parameters are frozen, and when they unfreeze.

    Frozen parameters have ``requires_grad`` False. A batch-norm all of whose parameters are frozen, or that has none
    and whose name is matched, stays in eval mode, so its statistics stay as well.

    Parameters
    ----------
    net : nn.Module
    freeze : sequence of str
        Patterns over the names of parameters.
    unfreeze : mapping of str to int
        From a pattern to the epoch, counted from 1, in which what it matches begins to learn.

    Attributes
    ----------
    later : dict of Parameter to int
        Epoch of each parameter that unfreezes.

    Raises
    ------
    OptionError
        For a pattern that matches no parameter, or that unfreezes what is not frozen.
    """

    def __init__(self, net: nn.Module, freeze: Sequence[str], unfreeze: Mapping[str, int]) -> None:
        self._freeze, self._unfreeze = freeze, unfreeze
        found = [parameter for pattern in freeze for parameter in matching(net, pattern, "--freeze")]
        unfrozen = {pattern: matching(net, pattern, "--unfreeze") for pattern in unfreeze}
        for parameter in found:
            parameter.requires_grad_(False)
        self.later: dict[nn.Parameter, int] = {}
        for pattern, members in unfrozen.items():
            frozen = [parameter for parameter in members if not parameter.requires_grad]
            if not frozen:
                raise OptionError(
                    f"--unfreeze: nothing that {pattern!r} matches is frozen.",
                    f'--freeze "{pattern}" freezes it first.',
                )
            self.later |= dict.fromkeys(frozen, unfreeze[pattern])
        self._norms = [
            (module, epoch)
            for name, module in net.named_modules()
            if (epoch := self._norm_epoch(name, module)) is not None
        ]

    @property
    def holds(self) -> bool:
        """Whether there are batch-norms whose statistics stay."""
        return bool(self._norms)

    def hold(self, epoch: int) -> None:
        """Put the batch-norms that are frozen in an epoch into eval mode."""
        for module, until in self._norms:
            if until == NEVER or epoch < until:
                module.eval()

    def _norm_epoch(self, name: str, module: nn.Module) -> int | None:
        """Epoch in which a module's statistics begin to move; None for one whose statistics are free."""
        norm = is_norm(module)
        if not norm and not any(key == "running_mean" for key, _ in module.named_buffers(recurse=False)):
            return None
        own = list(module.parameters(recurse=False))
        names = [f"{name}.weight", f"{name}.bias"]
        if not any(fnmatchcase(part, pattern) for part in names for pattern in self._freeze):
            return None
        if own and any(parameter.requires_grad for parameter in own):
            return None
        if not norm:
            raise OptionError(
                f"The batch-norm {name!r} of a module that was sent as a graph cannot be frozen.",
                "%connect kernel trains it here; or freeze other parameters.",
            )
        if own:
            epochs = [self.later.get(parameter, NEVER) for parameter in own]
        else:
            epochs = [at for pattern, at in self._unfreeze.items() if fnmatchcase(names[0], pattern)] or [NEVER]
        return NEVER if NEVER in epochs else max(epochs)
