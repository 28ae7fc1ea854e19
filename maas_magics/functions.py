"""The words of a cell as functions, for scripts, other notebooks and tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from maas_magics.api.arguments import declared, taking
from maas_magics.api.backend import Job, JobInfo
from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.events import Event
from maas_magics.api.gallery import Gallery
from maas_magics.api.highlight import Highlighted
from maas_magics.api.protect import EncryptRequest, KeyRequest, Protected, RotateKeyRequest, SignRequest
from maas_magics.api.records import Comparison
from maas_magics.api.requests import (
    EvaluateRequest,
    ExportRequest,
    GenerateRequest,
    ImportRequest,
    PredictRequest,
    PullRequest,
    PushRequest,
    Request,
    SyncRequest,
    TrainRequest,
)
from maas_magics.api.results import Artifact, Copied, Metrics, ModelInfo, TrainedModel
from maas_magics.api.search import SearchRequest, SearchResult
from maas_magics.api.specs import CallSpec
from maas_magics.api.stream import ChunkStream
from maas_magics.api.sweep import SweepResult
from maas_magics.api.verbs import find_verb
from maas_magics.session import current

if TYPE_CHECKING:
    from torch import nn

    from maas_magics.endpoint import Endpoint


@declared
@taking(TrainRequest, CallSpec, places=("name", "data", "target"))
def train(  # numpydoc ignore=PR01,PR02,PR04,PR07
    said: dict[str, Any],  # documented where each option is declared
) -> TrainedModel | SweepResult | Job[TrainedModel] | Job[SweepResult]:
    """Fit a model to data and publish it as a new version of ``name``.

    Its options are those of `maas_magics.api.requests.TrainRequest` and of `maas_magics.api.specs.CallSpec`; values
    left out are the architecture's own.

    Parameters
    ----------
    {parameters}

    Returns
    -------
    TrainedModel or SweepResult or Job
        With ``background`` the job that makes it; with ``sweep`` or ``race`` the result of it.
    """
    call = CallSpec(**{name: said.pop(name) for name in CallSpec.__struct_fields__ if name in said})
    resume = bool((call.sweep or call.race) and said.pop("resume", False))
    return current().train(TrainRequest(**said), call, live=True, resume=resume)


@declared
def evaluate(
    model: str,
    data: Any,
    target: Any = None,
    *,
    metrics: str | Sequence[str | Callable[..., Any]] = (),
    csv: str | None = None,
    max_bad: float | str = 0.0,
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
    max_bad : float or str
        Largest share of rows whose files cannot be read, which are then left out, as in `train`: ``"1%"``.
    """
    asked = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    request = EvaluateRequest(model=model, data=data, target=target, metrics=asked, csv=csv, max_bad=max_bad)
    result = current().run(request)
    assert isinstance(result, Metrics)
    return result


@declared
def export(
    model: str,
    format: str = "onnx",
    *,
    tolerance: float = 1e-4,
    compress: str | None = None,
    max_drop: float | str = "1%",
    encrypt: bool = False,
    out: str | None = None,
    auto: bool = False,
    target: str | None = None,
    data: Any = None,
) -> Artifact:
    """Convert a model, verify the file against the model, and pack it.

    Parameters
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    format : str
        ``"onnx"``, ``"ort"``, ``"openvino"``, ``"pt2"`` or ``"safetensors"``.
    tolerance : float
        Largest absolute difference of any output that is accepted.
    compress : str, optional
        ``"int8"``, or another compressor: the file is then a variant of the version, ``NAME@int8``.
    max_drop : float or str
        What the first of the usual metrics may lose on held-out rows by being compressed; see `ExportRequest`.
    encrypt : bool
        Whether its files are encrypted, with the key of ``MAAS_KEY``: the variant is then ``NAME@onnx+encrypted``.
    out : str, optional
        Folder or file that gets a copy.
    auto : bool
        Whether the sensible compressions are tried, and the best one within ``max_drop`` is kept.
    target : str, optional
        What the best one has least of: ``"size"`` or ``"latency"``.
    data : Any
        Rows that a pruned network learns on again, of which no answers are needed.
    """
    asked = ExportRequest(
        model=model,
        format=format,
        tolerance=tolerance,
        compress=compress,
        max_drop=max_drop,
        encrypt=encrypt,
        out=out,
        auto=auto,
        target=target,
        data=data,
    )
    result = current().run(asked)
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
    column: str | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    seed: int | None = None,
    stop: str | Sequence[str] = (),
    json: Any = None,
    choice: str | Sequence[str] = (),
    regex: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
) -> Any:
    """Predict with a model.

    Parameters
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    data : Any
        A table, arrays, or a path or URL, a folder of files, a pattern of their names, or a list of them.
    probabilities : bool, optional
        Every label's probability. By default tables get them for up to 20 labels, and arrays do not.
    top : int
        The likeliest labels and their probabilities instead.
    batch_size : int, optional
        Rows of a batch.
    csv : str, optional
        How CSV files are written, as in `train`.
    column : str, optional
        Column of the prompts, of a model that writes.
    max_tokens : int, optional
        Tokens of what such a model writes at most; 256 by default.
    temperature : float, optional
        0, the default, takes the likeliest token each time; 1 each token as often as it is likely.
    top_p : float, optional
        Tokens are chosen among the likeliest that make up this share.
    top_k : int, optional
        Tokens are chosen among as many of the likeliest.
    seed : int, optional
        Of the random numbers: the same text or picture for the same seed.
    stop : str or sequence of str
        Texts before which an answer ends.
    json : dict, str or bool, optional
        Schema of the JSON that answers are; True for any object.
    choice : sequence of str, optional
        Texts one of which each answer is.
    regex : str, optional
        Regular expression that answers keep to.
    steps : int, optional
        Passes from noise to a picture, of a model that draws; 8 by default.
    guidance : float, optional
        How closely a picture keeps to its caption: 1 as the network says, 2 by default.

    Returns
    -------
    table, ndarray or Pictures
        A table of the same library as ``data`` with its index kept, or an array for arrays. Of a model that draws, a
        list of pictures of Pillow for a caption or a list of them; in tables they are the bytes of PNG files.
    """
    return current().predict(
        PredictRequest(
            model=model, data=data, probabilities=probabilities, top=top, batch_size=batch_size, csv=csv, column=column,
            max_tokens=max_tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed,
            stop=(stop,) if isinstance(stop, str) else tuple(stop), json=json,
            choice=(choice,) if isinstance(choice, str) else tuple(choice), regex=regex, steps=steps,
            guidance=guidance,
        )
    )  # fmt: skip


@declared
def highlight(model: str, data: Any, *, csv: str | None = None) -> Highlighted:
    """Mark the entities that a model finds in texts.

    Parameters
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias`` of a model of entities.
    data : Any
        A text of several words, or rows as in `predict`.
    csv : str, optional
        How CSV files are written, as in `train`.

    Returns
    -------
    Highlighted
        Shows the first texts with their entities in colours, in a terminal in brackets.
    """
    return current().highlight(PredictRequest(model=model, data=data, csv=csv))


@declared
def show(model: str, data: Any, *, csv: str | None = None) -> Gallery:
    """Predict, and show the first rows of pictures or sounds with their answers.

    Parameters
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    data : Any
        As in `predict`; rows of pictures or sounds, twelve of which are shown at most.
    csv : str, optional
        How CSV files are written, as in `train`.
    """
    request = PredictRequest(model=model, data=data, csv=csv)
    found = current().gallery(request, current().predict(request))
    if found is None:
        raise DataError(
            "No column of these rows holds pictures or sounds.", f"maas.predict({model!r}, …) answers them."
        )
    return found


@declared
def augmented(
    data: Any, augment: str | Sequence[str], *, rows: int = 4, seed: int = 0, csv: str | None = None
) -> Gallery:
    """Show pictures as they are, and beside each as a training with ``augment`` may vary it.

    Parameters
    ----------
    data : Any
        As in `train`.
    augment : str or sequence of str
        Ways in which they are varied, as in `train`: ``"flip,crop=0.5,color"``.
    rows : int
        How many pictures.
    seed : int
        Of the random numbers.
    csv : str, optional
        How CSV files are written, as in `train`.
    """
    ways = (augment,) if isinstance(augment, str) else tuple(augment)
    return current().augmented(data, ways, rows, seed, csv)


@declared
def generate(
    model: str,
    data: Any,
    *,
    params: Mapping[str, Any] | None = None,
    max_steps: int | None = None,
    max_tokens: int | None = None,
    timeout: float | None = None,
    **sampling: Any,
) -> ChunkStream:
    """Generate an answer that comes in chunks, read by ``for`` or ``async for``.

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
    max_tokens : int, optional
        The same, of a model that writes: each pass writes a token.
    timeout : float, optional
        Seconds after which it ends with an error.
    **sampling : Any
        As ``params``, by name: ``temperature=0``, ``seed=3``, ``stop="."``.

    Returns
    -------
    ChunkStream
        Closing or dropping it cancels the rest. A model that answers in one pass gives one chunk with what `predict`
        gives.
    """
    if max_tokens is not None and max_steps is not None:
        raise OptionError("max_tokens and max_steps say the same.", f"max_tokens={max_tokens}")
    if twice := sampling.keys() & (params or {}):
        raise OptionError(f"{min(twice)} is given by name and in params.", f"{min(twice)}=…")
    return current().generate(
        GenerateRequest(
            model=model,
            data=data,
            params={**(params or {}), **sampling},
            max_steps=max_tokens if max_steps is None else max_steps,
            timeout=timeout,
        )
    )


@declared
def import_model(
    path: Any,
    name: str,
    *,
    kind: str | None = None,
    column: str | None = None,
    data: Any = None,
    sample: Any = None,
    target: Any = None,
) -> ModelInfo:
    """Make a model of a Hugging Face folder with its head, or of an ONNX file, without a training.

    Parameters
    ----------
    path : str or estimator
        Folder as ``save_pretrained`` writes it, or ``OWNER/NAME`` of the hub, an ONNX file, or a version's folder in
        another store; on a service, what its owner offers. In this kernel also a fitted estimator of scikit-learn,
        XGBoost or LightGBM.
    name : str
        Model name.
    kind : str, optional
        ``"text-classification"``, ``"token-classification"``, ``"image-classification"`` or ``"embedding"``; recognised
        by default.
    column : str, optional
        Name of the column that it reads; by default ``text``, ``tokens`` or ``picture``.
    data : Any, optional
        Held-out rows that have the answers, of which the first 1,000 are kept: they give the version its metrics, and
        compressions are judged on them.
    sample : Any, optional
        The same rows, for what needs no answers: they name the columns of an ONNX file, which is verified on them.
    target : Any, optional
        Column with the answers; by default ``label``, ``value`` or ``tags``, or a column for each of several labels. Of
        an ONNX file none is expected by default.

    Returns
    -------
    ModelInfo
        The new version.
    """
    if data is not None and sample is not None:
        raise OptionError("data and sample are the same rows: give one of them.", "sample=df, target='label'")
    rows = sample if data is None else data
    request = ImportRequest(path=path, name=name, kind=kind, column=column, data=rows, target=target)
    return current().run(request)  # type: ignore[return-value]


@declared
def push(model: str, url: str) -> Copied:
    """Send a version to a place elsewhere, file by file, its manifest last; what arrived is not sent twice.

    Parameters
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    url : str
        ``s3://bucket/prefix``, any other URL of fsspec, or a folder.

    Returns
    -------
    Copied
        What was sent, and where it is.
    """
    return current().run(PushRequest(model=model, url=url))  # type: ignore[return-value]


@declared
def pull(url: str, name: str | None = None) -> Copied:
    """Fetch a version from a place elsewhere, checked by the digests of its manifest.

    Parameters
    ----------
    url : str
        Of a version, of a model, of which the newest version is taken, or of a place with one model.
    name : str, optional
        What it is to be called here; as there by default.

    Returns
    -------
    Copied
        What was fetched, and what it is called.
    """
    return current().run(PullRequest(url=url, name=name))  # type: ignore[return-value]


@declared
def sync(url: str) -> Copied:
    """Send what a place elsewhere lacks, and fetch what is missing here.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``, any other URL of fsspec, or a folder.

    Returns
    -------
    Copied
        What was copied.
    """
    return current().run(SyncRequest(url=url))  # type: ignore[return-value]


@declared
def make_key(file: str) -> Protected:
    """Make a key to encrypt with, for its owner alone to read: ``MAAS_KEY=file:FILE`` names it.

    Parameters
    ----------
    file : str
        File that gets it; it must not be there.

    Returns
    -------
    Protected
        With the name of the key.
    """
    return current().run(KeyRequest(file=file))  # type: ignore[return-value]


@declared
def encrypt(model: str) -> ModelInfo:
    """Encrypt a version with its exports and held-out rows, as the next version; the readable one is removed.

    Parameters
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.

    Returns
    -------
    ModelInfo
        The encrypted version.
    """
    return current().run(EncryptRequest(model=model))  # type: ignore[return-value]


@declared
def rotate_key(model: str) -> Protected:
    """Have the first key of ``MAAS_KEY`` open what is encrypted, in place of the one before.

    Parameters
    ----------
    model : str
        ``NAME`` for all versions, ``NAME:3`` or ``NAME@alias`` for one.

    Returns
    -------
    Protected
        With the versions and exports whose keys were wrapped anew.
    """
    return current().run(RotateKeyRequest(model=model))  # type: ignore[return-value]


@declared
def sign(model: str, key: str, days: float | None = None) -> Protected:
    """Sign a version and its exports, for those who open signed models alone.

    Parameters
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    key : str
        File with a private key of Ed25519 in PEM, without a password.
    days : float, optional
        After which the signature ends.

    Returns
    -------
    Protected
        With the name of the key.
    """
    return current().run(SignRequest(model=model, key=key, days=days))  # type: ignore[return-value]


@declared
def search(
    model: str, query: str | Sequence[str], data: Any, k: int = 10, *, column: str | None = None, csv: str | None = None
) -> SearchResult:
    """Find the rows of a table that are most like a text, by the vectors of a model.

    Parameters
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias`` of a model trained for ``task="embedding"``.
    query : str or sequence of str
        A text, or several.
    data : Any
        A table, a list of texts, or a path or URL.
    k : int
        Rows for each query.
    column : str, optional
        Column of the table that is searched; by default the second of the pairs that the model was trained on, else
        the first of them, else the only column of texts.
    csv : str, optional
        How CSV files are written, as in `train`.

    Returns
    -------
    SearchResult
        The rows with their scores; ``to_pandas()`` gives them as a table.
    """
    asked = query if isinstance(query, str) else tuple(query)
    return current().search(SearchRequest(model=model, query=asked, data=data, k=k, column=column, csv=csv))


@declared
def load(model: str) -> nn.Module:
    """The trained network of a model as a torch module in eval mode.

    Parameters
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``, in the local store.
    """
    return current().load(model)


@declared
def run(verb: str, **options: Any) -> Any:
    """Run a verb, such as one that another package brings.

    Parameters
    ----------
    verb : str
        Its name, which is that of its magic.
    **options : Any
        Fields of its request, by name.

    Returns
    -------
    object
        What the verb gives back.
    """

    def asked(said: dict[str, Any]) -> Request[Any]:
        return found.request(**said)

    found = find_verb(verb)
    asked.__name__ = verb
    return current().run(declared(taking(found.request, places=())(asked))(**options))


@declared
def models() -> list[ModelInfo]:
    """Newest version of every model."""
    return list(current().backend.models.list())


@declared
def jobs() -> list[JobInfo]:
    """Every job, newest first, with the sweeps of this session."""
    return current().jobs()


@declared
def connect(
    where: str = "local",
    *,
    token_file: str | None = None,
    certificate: str | None = None,
    require_signed: str | None = None,
) -> str:
    """Choose where requests run from here on, as ``%connect`` does.

    Parameters
    ----------
    where : str
        ``"kernel"``, ``"local"`` (this machine's service, which is started where there is none), a URL, or
        ``"oip+URL"`` for any server of the Open Inference Protocol, ``"openai+URL"`` for one of OpenAI's API.
    token_file : str, optional
        File with the token; else the variable ``MAAS_TOKEN``, or the keyring.
    certificate : str, optional
        File with the certificate that the service is known by.
    require_signed : str, optional
        Of ``"kernel"`` and ``"local"``: file of public keys of Ed25519 in PEM, or a folder of such files; only models
        that one of them signed are opened there. Of the kernel, ``""`` for any again.

    Returns
    -------
    str
        Where requests run now.
    """
    session = current()
    session.connect(where, token_file=token_file, certificate=certificate, require_signed=require_signed)
    return session.where()


@declared
def serve(model: str, *, kv_memory: str | None = None) -> Endpoint:
    """Put a model behind an endpoint of the service that is connected, or of this machine's, as ``%serve`` does.

    Parameters
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    kv_memory : str, optional
        What the keys and values of a model that writes may take together, as ``"512MB"``: so many texts are written at
        a time. In this kernel, the variable ``MAAS_KV_MEMORY`` says it.

    Returns
    -------
    Endpoint
        Where it answers, with lines to paste into a shell or Python.
    """
    return current().serve(model, kv_memory)


@declared
def status() -> dict[str, Any]:
    """Where requests run, what is there, and what the service's owner keeps back of its answers."""
    session = current()
    going = [info for info in session.jobs() if info.state in ("queued", "running")]
    return {
        "backend": session.backend.place if session.remote else "this kernel",
        "store": session.store,
        "models": len(session.model_names()),
        "jobs going": len(going),
        **session.backend.kept_back(),
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
    Any
        The `Job`, or with ``block`` its result.
    """
    return current().attach(job, wait=block)


@declared
def stop(job: str) -> None:
    """Stop a job gracefully; its best checkpoint is kept. A second call drops the current work.

    A sweep drops the current trial, and publishes the best of the others.

    Parameters
    ----------
    job : str
        Id of a job, its first four characters or more, or the model that it makes.
    """
    current().job_of(job, going=True).stop()


@declared
def logs(job: str) -> list[Event]:
    """Events of a job so far.

    Parameters
    ----------
    job : str
        Id of a job, its first four characters or more, or the model that it makes.
    """
    return list(current().job_of(job).events(follow=False))


@declared
def compare(*models: str) -> Comparison:
    """Put versions of models side by side; in a notebook their curves are shown as well.

    Parameters
    ----------
    *models : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.

    Returns
    -------
    Comparison
        Its ``table`` is a DataFrame, its ``records`` hold every curve.
    """
    return current().compare(models)


@declared
def alias(model: str, alias: str) -> None:
    """Make ``NAME@alias`` name the version that ``model`` names now.

    Parameters
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    alias : str
        Name for the version: letters, digits, ``_``, ``-`` and ``.``; it moves if it is there already.
    """
    current().backend.models.alias(model, alias)


@declared
def remove(model: str) -> None:
    """Remove a version (``NAME:3``), or a whole model (``NAME``).

    Parameters
    ----------
    model : str
        ``NAME:3`` or ``NAME@alias`` for one version, ``NAME`` for all of them.
    """
    current().backend.models.delete(model)
