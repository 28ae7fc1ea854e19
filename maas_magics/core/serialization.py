"""Requests with live objects, made ready for another process."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from maas_magics.api.errors import ModelError, OptionError
from maas_magics.api.requests import ImportRequest, Request, TrainRequest, is_named_split, spec_of
from maas_magics.api.specs import DataSpec
from maas_magics.api.wire import Code, Graph, Uploaded
from maas_magics.core.data.arrow import is_text
from maas_magics.core.data.origin import origin_of
from maas_magics.core.data.prose import prose_table
from maas_magics.core.data.sources import Source, is_files, notes_of, open_source, typed
from maas_magics.core.data.sources.arrays import of_column
from maas_magics.core.data.sources.files import FileSource
from maas_magics.core.data.stream import write_stream
from maas_magics.core.data.target import TARGET
from maas_magics.core.tasks.language import is_language
from maas_magics.core.tasks.several import heads_of

R = TypeVar("R", bound=Request[Any])

Send = Callable[[BinaryIO, str, int], None]
"""Takes a file that stands at its beginning, the SHA-256 of its bytes, and how many they are."""

DATA = ("data", "validation")


def pack(
    request: R,
    send: Send,
    allow_code: bool = False,
    texts: Callable[[], Collection[str]] = tuple,
    task: Callable[[], str] = str,
) -> R:
    """A request whose rows were sent ahead, and are named by digest.

    Parameters
    ----------
    request : Request
    send : callable
        Brings bytes to where the request will run.
    allow_code : bool
        Whether source runs there.
    texts : callable
        Columns that the model of the request takes as text; requested files only.
    task : callable
        Task of the model of the request; files and lists only.

    Raises
    ------
    MaasError
        If the rows cannot be read, or the module cannot be sent.
    """
    if isinstance(request, TrainRequest):
        from maas_magics.core.batches import loaders

        _check_loss(request)
        if loaders.is_loader(request.data):
            rows = loaders.materialised(spec_of(request, DataSpec), request.loader_workers, request.seed)
            request = msgspec.structs.replace(request, **rows, loader_workers=None)
    if isinstance(request, ImportRequest):
        _check_path(request.path)
    changes: dict[str, Any] = {}
    if isinstance(request, TrainRequest) and not isinstance(request.model, (str, Graph, Code)):
        changes["model"] = _module(request, send, allow_code)
    csv = getattr(request, "csv", None)
    read: list[str] = []
    for name in DATA:
        value = getattr(request, name, None)
        if (
            value is None
            or isinstance(value, (int, float, Uploaded))
            or (name == "validation" and is_named_split(value))
        ):
            continue
        if is_language(request.task) if isinstance(request, TrainRequest) else _named(value) and is_language(task()):
            value = prose_table(value, csv)
            changes["csv"] = None
        if isinstance(value, tuple) and len(value) == 2 and not is_files(value):
            changes[name] = _rows(value[0], send), _target(value[1], send)
            continue
        if is_files(value):
            value = typed(open_source(value, csv), texts() if name == "data" else read)
            changes["csv"] = None
        changes[name] = _rows(value, send)
        if isinstance(value, FileSource):
            read = [field.name for field in value.schema if is_text(field.type)]
    target = getattr(request, "target", None)
    if target is not None:
        changes["target"] = _target(target, send)
    return msgspec.structs.replace(request, **changes)


def _check_path(path: Any) -> None:
    """Raise `ModelError` for a live object in place of a path: it stays here."""
    if not isinstance(path, str):
        raise ModelError(
            f"A live {type(path).__name__} is not sent to a service.",
            "Import it in this kernel, and send it: %connect local, %maas import …, %maas push NAME URL",
        )


def _named(value: Any) -> bool:
    """Whether a value may name files of text, or be texts itself."""
    each = value if isinstance(value, (list, tuple)) else [value]
    return bool(each) and all(isinstance(one, (str, Path)) for one in each)


def _check_loss(request: TrainRequest) -> None:
    """Raise `OptionError` for a loss that is a function or a module: such a one stays here."""
    if isinstance(request.loss, dict):
        for of in request.loss.values():
            _check_loss(msgspec.structs.replace(request, loss=of))
    if not callable(request.loss):
        return
    from maas_magics.core.losses.known import in_words

    words, kernel = in_words(request.loss), "%connect kernel trains with it here."
    raise OptionError(
        f"loss holds a {type(request.loss).__name__}, which cannot be sent to another process.",
        f"{words} is the same by name; {kernel}" if words else kernel,
    )


def _module(request: TrainRequest, send: Send, allow_code: bool) -> Graph | Code:
    """A module as its exported graphs where that can be; as its source where that may run."""
    from maas_magics.core.batches.training_rows import module_and_rows
    from maas_magics.core.graphs.rebuild import pack as pack_module
    from maas_magics.core.networks.modules import title_of

    net, rows, names, open_axes, heads = module_and_rows(request)
    try:
        data = pack_module(net, rows, open_axes)
    except ModelError as error:
        if allow_code and request.source:
            return Code(request.source, title_of(net))
        hint = "%connect kernel trains it here"
        if request.source:
            hint += "; a service started with --allow-code runs the cell itself"
        raise ModelError(f"The module cannot be sent: {error.message}", f"{hint}.") from None
    digest = hashlib.sha256(data).hexdigest()
    send(io.BytesIO(data), digest, len(data))
    return Graph(digest, title_of(net), names, heads)


def _names(target: Any) -> bool:
    return isinstance(target, (list, tuple)) and len(target) < 1000 and all(isinstance(name, str) for name in target)


def _target(target: Any, send: Send) -> Any:
    """A target as it is sent: names of columns as they are, arrays by their digests, several by their names."""
    heads = heads_of(target)
    if heads:
        return {name: _target(of, send) for name, of in heads.items()}
    if isinstance(target, (str, int, Uploaded)) or _names(target):
        return target
    return _rows(target, send, target=True)


def _rows(data: Any, send: Send, target: bool = False) -> Uploaded:
    if target and getattr(data, "ndim", 1) == 1:
        name = getattr(data, "name", None)
        data = {str(name) if isinstance(name, str) else TARGET: of_column(data)}
    source: Source = open_source(data)
    with tempfile.TemporaryFile() as file:
        digest, size = write_stream(source, file)
        file.seek(0)
        send(file, digest, size)
    return Uploaded(digest, source.arrays, notes_of(source), origin_of(source))
