"""From a kind of request to the function that runs it: the only dispatch there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import EvaluateRequest, ExportRequest, PredictRequest, Request, TrainRequest
from maas_magics.core.context import Context

R = TypeVar("R")


def _train(request: TrainRequest, context: Context) -> Any:
    from maas_magics.core.training.train import train

    return train(request, context)


def _evaluate(request: EvaluateRequest, context: Context) -> Any:
    from maas_magics.core.evaluate import evaluate

    return evaluate(request, context)


def _export(request: ExportRequest, context: Context) -> Any:
    from maas_magics.core.exporters.export import export

    return export(request, context)


def _predict(request: PredictRequest, context: Context) -> Any:
    from maas_magics.api.events import Progress
    from maas_magics.core.inference.predict import predict

    def progress(done: int, total: int) -> None:
        context.check_stop()
        context.emit(Progress(done=done, total=total))

    return predict(request, context.loader, progress)


TASKS: dict[type[Request[Any]], Callable[[Any, Context], Any]] = {
    TrainRequest: _train,
    EvaluateRequest: _evaluate,
    ExportRequest: _export,
    PredictRequest: _predict,
}


def run(request: Request[R], context: Context) -> R:
    """Run a request in this thread.

    Raises
    ------
    OptionError
        If nothing runs requests of its kind.
    """
    try:
        task = TASKS[type(request)]
    except KeyError:
        raise OptionError(f"Nothing runs a {type(request).__name__}.") from None
    from maas_magics.core.deserialization import unpack

    result: R = task(unpack(request, context), context)
    return result


def title(request: Request[Any]) -> tuple[str, str]:
    """What a request does, for a person, and the model it is about."""
    word = type(request).__name__.removesuffix("Request").lower()
    model = getattr(request, "name", None) or getattr(request, "model", "")
    return f"{word} {model}", str(model).partition(":")[0].partition("@")[0]
