"""From a request to the function that runs it: the only dispatch there is."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any, TypeVar

from maas_magics.api.requests import PredictRequest, Request
from maas_magics.api.verbs import verb_of
from maas_magics.core.context import Context

R = TypeVar("R")


def predict(request: PredictRequest, context: Context) -> Any:
    """Predict as a job, which reports its progress and can be stopped.

    Parameters
    ----------
    request : PredictRequest
        The request.
    context : Context
        The job's.
    """
    from maas_magics.api.events import Progress
    from maas_magics.core.inference.predict import predict

    def progress(done: int, total: int) -> None:
        context.check_stop()
        context.emit(Progress(done=done, total=total))

    return predict(request, context.loader, progress)


def run(request: Request[R], context: Context) -> R:
    """Run a request in this thread.

    Raises
    ------
    OptionError
        If nothing runs requests of its kind.
    """
    verb = verb_of(request)
    from maas_magics.core.data.media import opening
    from maas_magics.core.deserialization import unpack

    opened = unpack(request, context)
    # Rows that were sent hold no paths of this machine, and neither does what a service is requested.
    with opening(opened is request and not context.served):
        result: R = resolve_name(verb.run)(opened, context)
    return result


def title(request: Request[Any]) -> tuple[str, str]:
    """What a request does, for display, and the model it is about."""
    model = getattr(request, "name", None) or getattr(request, "model", "")
    return f"{verb_of(request).name} {model}".rstrip(), str(model).partition(":")[0].partition("@")[0]
