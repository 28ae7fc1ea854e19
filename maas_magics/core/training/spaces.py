"""Whether a sweep is possible, checked before its first trial."""

from __future__ import annotations

from typing import Any

import msgspec

from maas_magics.api.errors import MaasError, OptionError, did_you_mean
from maas_magics.api.requests import TrainRequest
from maas_magics.api.space import FIELDS, Choices, Parameter, Range, Space
from maas_magics.core.architectures import architectures
from maas_magics.core.losses.make import task_of
from maas_magics.core.training.checks import check_request
from maas_magics.core.training.steps.optimizers import find_optimizer
from maas_magics.core.training.steps.schedules import schedule

WHOLE = ("batch_size", "epochs", "patience")
NAMES: dict[str, Any] = {"optimizer": find_optimizer, "schedule": schedule, "model": architectures.get}
CHANGES_LOSS = ("loss", "label_smoothing", "class_weights")
"""Fields that change what the loss means, so that losses of two trials cannot be compared."""

AUTO = ("tabm", "cnn")
"""What ``model="auto"`` may choose."""


def check_space(request: TrainRequest, space: Space) -> None:
    """Raise for a parameter that is unknown or of the wrong kind, or a value that a request could not hold.

    Raises
    ------
    OptionError
    """
    for name, parameter in space.items():
        if name in FIELDS:
            _check_field(request, name, parameter)
    changing = next((name for name in CHANGES_LOSS if name in space), None)
    if changing is not None and request.monitor in (None, "loss"):
        raise OptionError(
            f"Trials with another {changing.replace('_', ' ')} cannot be compared by their loss.",
            "Choose by a metric: --monitor accuracy",
        )
    _check_hyperparameters(request, space)


def _check_field(request: TrainRequest, name: str, parameter: Parameter) -> None:
    values: tuple[Any, ...] = parameter.values if isinstance(parameter, Choices) else (parameter.low, parameter.high)
    if isinstance(parameter, Range):
        if name in NAMES or name in ("loss", "class_weights"):
            raise OptionError(f"{name} is not a number.", f"{name}=['…', '…']")
        if name in WHOLE and not parameter.whole:
            raise OptionError(f"{name} is a whole number.", f"{name}={int(parameter.low) or 1}..{int(parameter.high)}")
    for value in values:
        if name in NAMES:
            if not isinstance(value, str):
                raise OptionError(f"{name}: {value!r} is not a name.", f"{name}=['…', '…']")
            if value != "auto":
                NAMES[name](value)
        elif name == "loss":
            task_of(value, None)
        elif name in WHOLE and (isinstance(value, bool) or not isinstance(value, int)):
            raise OptionError(f"{name}: {value!r} is not a whole number.", f"{name}=[1, 2]")
        elif name != "class_weights" and not isinstance(value, (int, float)):
            raise OptionError(f"{name}: {value!r} is not a number.", f"{name}=[0.1, 0.2]")
        try:
            check_request(msgspec.structs.replace(request, **{name: value}))
        except MaasError as error:
            raise type(error)(error.message) from None


def _check_hyperparameters(request: TrainRequest, space: Space) -> None:
    wanted = {name: parameter for name, parameter in space.items() if name not in FIELDS}
    if not wanted:
        return
    if not isinstance(request.model, str):
        raise OptionError(
            f"A module has no hyperparameter {next(iter(wanted))!r}; it is trained as it is.",
            f"Sweep {', '.join(FIELDS[:6])} …, or an architecture by name.",
        )
    models: Any = space.get("model")
    names = list(models.values) if models is not None else [request.model]
    names = [other for name in names for other in (AUTO if name == "auto" else (name,))]
    known = [architectures.get(name) for name in names]
    either = models is None and request.model == "auto"
    for name, parameter in wanted.items():
        having = [architecture for architecture in known if name in architecture.defaults]
        if not having or (len(having) < len(known) and not either):
            lacking = next(other for other, kind in zip(names, known, strict=True) if name not in kind.defaults)
            offered = {*FIELDS, *(default for kind in known for default in kind.defaults)}
            raise OptionError(
                f"{'No architecture' if either else lacking} has a hyperparameter {name!r}"
                f"{'' if either else ', nor %train such an option to sweep'}.",
                did_you_mean(name, offered),
            )
        default = having[0].defaults[name]
        real = isinstance(default, float) and not isinstance(default, bool)
        if real and isinstance(parameter, Range) and parameter.whole:
            raise OptionError(
                f"{name} is a real number, and {parameter.low}..{parameter.high} are whole ones.",
                f"{name}={float(parameter.low)}..{float(parameter.high)}",
            )
