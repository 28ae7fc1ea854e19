"""The words of a cell as functions, for scripts, other notebooks and tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from maas_magics.api.arguments import declared
from maas_magics.api.backend import Job, JobInfo
from maas_magics.api.callbacks import Callback
from maas_magics.api.events import Event
from maas_magics.api.records import Comparison
from maas_magics.api.requests import EvaluateRequest, ExportRequest, GenerateRequest, PredictRequest, Task, TrainRequest
from maas_magics.api.results import Artifact, Metrics, ModelInfo, TrainedModel
from maas_magics.api.stream import ChunkStream
from maas_magics.api.sweep import SweepResult
from maas_magics.session import current

if TYPE_CHECKING:
    from torch import nn


@declared
def train(
    name: str,
    data: Any = None,
    target: Any = None,
    *,
    model: Any = "auto",
    params: Mapping[str, Any] | None = None,
    task: Task | None = None,
    loss: str | Callable[..., Any] = "auto",
    outputs: Literal["logits", "probabilities", "values"] | None = None,
    optimizer: str | None = None,
    optimizer_params: Mapping[str, Any] | None = None,
    lr: float | Literal["auto"] | None = None,
    weight_decay: float | None = None,
    schedule: str | None = None,
    schedule_params: Mapping[str, Any] | None = None,
    warmup: float = 0.0,
    lr_of: Mapping[str, float] | None = None,
    freeze: str | Sequence[str] = (),
    unfreeze: Mapping[str, int] | None = None,
    epochs: int | None = None,
    batch_size: int | Literal["auto"] | None = None,
    accumulate: int = 1,
    clip: float | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    ema: float | None = None,
    patience: int | None = None,
    monitor: str | None = None,
    validation: Any = None,
    weights: str | None = None,
    drop: str | Sequence[str] = (),
    features: str | Sequence[str] = (),
    metrics: str | Sequence[str | Callable[..., Any]] = (),
    class_weights: str | Mapping[Any, float] | Sequence[float] | None = None,
    balance: bool = False,
    label_smoothing: float | None = None,
    preprocess: Literal["auto", "none"] = "auto",
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    sample: int = 1_000,
    compile: bool | None = None,
    fast: Literal["auto"] | None = None,
    profile: bool = False,
    checkpoint_every: str | None = None,
    resume: bool | str = False,
    csv: str | None = None,
    stream: bool | None = None,
    workers: int = 1,
    shard: bool = False,
    loader_workers: int | None = None,
    source: str = "",
    background: bool = False,
    callbacks: Sequence[Callback] = (),
    track: Sequence[str] = (),
    sweep: str = "",
    trials: int = 20,
) -> TrainedModel | SweepResult | Job[TrainedModel] | Job[SweepResult]:
    """Fit a model to data and publish it as a new version of ``name``.

    Parameters are those of `maas_magics.api.requests.TrainRequest`; figures left out are the
    architecture's own.

    Parameters
    ----------
    background : bool
        Return a `Job` at once instead of waiting.
    callbacks : sequence of callable
        Functions of one event, told everything that the run tells; one that answers ``"stop"`` stops it.
    track : sequence of str
        Where the run is written down: ``"tensorboard"``, ``"tensorboard=FOLDER"``, ``"mlflow"``, ``"mlflow=URI"``.
    sweep : str
        Parameters to search, ``"lr=1e-4..1e-1 log, hidden=[64, 128], dropout=0.0..0.5"``; the best trial's model is
        published.
    trials : int
        Trainings of a sweep.
    resume : bool or str
        Go on from the newest checkpoint of this name, or of a job; with ``sweep``, go on with the newest sweep until
        it has so many trials.

    Returns
    -------
    TrainedModel or SweepResult, or the Job that makes it
    """
    request = TrainRequest(
        name=name,
        data=data,
        target=target,
        model=model,
        source=source,
        params=dict(params or {}),
        task=task,
        loss=loss,
        outputs=outputs,
        optimizer=optimizer,
        optimizer_params=dict(optimizer_params or {}),
        lr=lr,
        weight_decay=weight_decay,
        schedule=schedule,
        schedule_params=dict(schedule_params or {}),
        warmup=warmup,
        lr_of=dict(lr_of or {}),
        freeze=(freeze,) if isinstance(freeze, str) else tuple(freeze),
        unfreeze=dict(unfreeze or {}),
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        clip=clip,
        precision=precision,
        ema=ema,
        patience=patience,
        monitor=monitor,
        validation=validation,
        weights=weights,
        drop=(drop,) if isinstance(drop, str) else tuple(drop),
        features=(features,) if isinstance(features, str) else tuple(features),
        metrics=(metrics,) if isinstance(metrics, str) else tuple(metrics),
        class_weights=class_weights,
        balance=balance,
        label_smoothing=label_smoothing,
        preprocess=preprocess,
        seed=seed,
        device=device,
        threads=threads,
        sample=sample,
        compile=compile,
        fast=fast,
        profile=profile,
        checkpoint_every=checkpoint_every,
        resume=False if sweep else resume,
        csv=csv,
        stream=stream,
        workers=workers,
        shard=shard,
        loader_workers=loader_workers,
    )
    if sweep:
        return current().sweep(
            request, sweep, trials=trials, resume=bool(resume), background=background, callbacks=callbacks, track=track
        )
    return current().run(request, background=background, live=True, callbacks=callbacks, track=track)


@declared
def evaluate(
    model: str,
    data: Any,
    target: Any = None,
    *,
    metrics: str | Sequence[str | Callable[..., Any]] = (),
    csv: str | None = None,
) -> Metrics:
    """Score a model on rows that have the answers.

    Parameters
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    data, target : Any
        As in `train`; the target defaults to the one the model was trained on.
    metrics : sequence of str or callable
        The task's usual ones when empty.
    csv : str, optional
        How CSV files are written, as in `train`.
    """
    asked = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    result = current().run(EvaluateRequest(model=model, data=data, target=target, metrics=asked, csv=csv))
    assert isinstance(result, Metrics)
    return result


@declared
def export(model: str, format: str = "onnx", *, tolerance: float = 1e-4, out: str | None = None) -> Artifact:
    """Convert a model, verify the file against the model, and pack it.

    Parameters
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    format : str
        ``"onnx"``, ``"pt2"`` or ``"safetensors"``.
    tolerance : float
        Largest absolute difference of any output that is accepted.
    out : str, optional
        Folder or file that gets a copy.
    """
    result = current().run(ExportRequest(model=model, format=format, tolerance=tolerance, out=out))
    assert isinstance(result, Artifact)
    return result


@declared
def predict(
    model: str,
    data: Any,
    *,
    probabilities: bool | None = None,
    top: int = 0,
    batch_size: int | None = None,
    csv: str | None = None,
) -> Any:
    """Ask a model.

    Parameters
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    data : Any
        A table, arrays, or a path or URL, a folder of files, a pattern of their names, or a list of them.
    probabilities : bool, optional
        Every label's probability. Tables get them for up to 20 labels unless told otherwise; arrays only when asked.
    top : int
        The likeliest labels and their probabilities instead.
    batch_size : int, optional
        Rows asked at a time.
    csv : str, optional
        How CSV files are written, as in `train`.

    Returns
    -------
    A table of the same library as ``data`` with its index kept, or an array for arrays.
    """
    return current().predict(
        PredictRequest(model=model, data=data, probabilities=probabilities, top=top, batch_size=batch_size, csv=csv)
    )


@declared
def generate(
    model: str,
    data: Any,
    *,
    params: Mapping[str, Any] | None = None,
    max_steps: int | None = None,
    timeout: float | None = None,
) -> ChunkStream:
    """Ask a model for an answer that comes in chunks, read by ``for`` or ``async for``.

    Parameters
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    data : Any
        Inputs of one row by the names of the model's signature, or the input alone where there is one; rows as in
        `predict` where the model answers in one pass.
    params : dict of str to Any, optional
        What the model's sampler takes, such as a temperature or a seed.
    max_steps : int, optional
        Passes of the model after which the answer ends at the latest.
    timeout : float, optional
        Seconds after which it ends with an error.

    Returns
    -------
    ChunkStream
        Closing or dropping it cancels the rest. A model that answers in one pass gives one chunk with what `predict`
        gives.
    """
    return current().generate(
        GenerateRequest(model=model, data=data, params=dict(params or {}), max_steps=max_steps, timeout=timeout)
    )


@declared
def load(model: str) -> nn.Module:
    """The trained network of a model as a torch module in eval mode."""
    return current().load(model)


@declared
def models() -> list[ModelInfo]:
    """Newest version of every model."""
    return list(current().backend.models.list())


@declared
def jobs() -> list[JobInfo]:
    """Every job, newest first, with the sweeps of this session."""
    return current().jobs()


@declared
def status() -> dict[str, Any]:
    """Where requests run, and what is there."""
    session = current()
    going = [info for info in session.jobs() if info.state in ("queued", "running")]
    return {
        "backend": "this kernel",
        "store": session.store,
        "models": len(session.model_names()),
        "jobs going": len(going),
    }


@declared
def attach(job: str, *, block: bool = False) -> Any:
    """Show the live view of a job again, from its first event on.

    Parameters
    ----------
    job : str
        Id of a job, or its first four characters or more.
    block : bool
        Wait until it has ended.

    Returns
    -------
    The Job, or with ``block`` its result
    """
    return current().attach(job, wait=block)


@declared
def stop(job: str) -> None:
    """Stop a job gracefully; its best checkpoint is kept. A second call drops the work in hand.

    A sweep drops the trial in hand, and publishes the best of the others.
    """
    current().job(job).stop()


@declared
def logs(job: str) -> list[Event]:
    """Events of a job so far."""
    return list(current().job(job).events(follow=False))


@declared
def compare(*models: str) -> Comparison:
    """Put versions of models side by side; in a notebook their curves are shown as well.

    Parameters
    ----------
    models : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.

    Returns
    -------
    Comparison
        Its ``table`` is a DataFrame, its ``records`` hold every curve.
    """
    return current().compare(models)


@declared
def alias(model: str, alias: str) -> None:
    """Make ``NAME@alias`` name the version that ``model`` names now."""
    current().backend.models.alias(model, alias)


@declared
def remove(model: str) -> None:
    """Remove a version (``NAME:3``), or a whole model (``NAME``)."""
    current().backend.models.delete(model)
