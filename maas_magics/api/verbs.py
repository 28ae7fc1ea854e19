"""Verbs: what can be requested of a backend. Each is one record, of which its magic and its way to a service are made.

Another package adds one by an entry point of the group ``maas_magics.verbs``, named as the verb.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from maas_magics.api.errors import NotFound, OptionError, did_you_mean
from maas_magics.api.protect import EncryptRequest, KeyRequest, Protected, RotateKeyRequest, SignRequest
from maas_magics.api.requests import (
    EvaluateRequest,
    ExportRequest,
    ImportRequest,
    PredictRequest,
    PullRequest,
    PushRequest,
    Request,
    SyncRequest,
    TrainRequest,
)
from maas_magics.api.results import Artifact, Copied, Metrics, ModelInfo, Prediction, TrainedModel

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "maas_magics.verbs"


class Verb(msgspec.Struct, frozen=True, kw_only=True):
    """What can be requested of a backend.

    Attributes
    ----------
    name : str
        Word of a cell.
    request : type of Request
        Its fields declare the options; see `maas_magics.api.options.option`. ``model``, ``data`` and ``target`` mean
        what they do for `EvaluateRequest`: rows are sent ahead to a service.
    result : type
        What comes back: plain values, or structs of them.
    run : str
        ``"package.module:function"`` that gets the request and a `maas_magics.core.context.Context`; imported when it
        is first requested.
    summary, example : str
        For the help.
    """

    name: str
    request: type[Request[Any]]
    result: Any
    run: str
    summary: str
    example: str = ""


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            name="train",
            request=TrainRequest,
            result=TrainedModel,
            run="maas_magics.core.training.train:train",
            summary="Fit a model to data, live, and publish it as a new version.",
        ),
        Verb(
            name="evaluate",
            request=EvaluateRequest,
            result=Metrics,
            run="maas_magics.core.evaluate:evaluate",
            summary="Score a model on rows that have the answers.",
            example="%evaluate penguins --data held_out",
        ),
        Verb(
            name="export",
            request=ExportRequest,
            result=Artifact,
            run="maas_magics.core.export:export",
            summary="Convert a model, verify the file against the model on held-out rows, and pack it.",
            example="%export penguins\n%export penguins --format pt2 --out penguins.pt2\n"
            "%export penguins --compress int8 --max-drop 1%\n%export penguins --encrypt --out sealed",
        ),
        Verb(
            name="import",
            request=ImportRequest,
            result=ModelInfo,
            run="maas_magics.core.importers.folder:import_model",
            summary="Make a model of a file of ONNX or Keras, or of a Hugging Face folder, without a training.",
            example="%maas import ./sentiment --as mood\n%maas import fruit.onnx --as fruit --sample df --target kind",
        ),
        Verb(
            name="push",
            request=PushRequest,
            result=Copied,
            run="maas_magics.core.copying:push",
            summary="Send a version to a bucket or a folder elsewhere; what arrived is not sent twice.",
            example="%maas push penguins s3://bucket/prefix",
        ),
        Verb(
            name="pull",
            request=PullRequest,
            result=Copied,
            run="maas_magics.core.copying:pull",
            summary="Fetch a version from a bucket or a folder elsewhere, checked by its digests.",
            example="%maas pull s3://bucket/prefix/models/penguins --as birds",
        ),
        Verb(
            name="sync",
            request=SyncRequest,
            result=Copied,
            run="maas_magics.core.copying:sync",
            summary="Send what a bucket or a folder lacks, and fetch what is missing here.",
            example="%maas sync s3://bucket/prefix",
        ),
        Verb(
            name="key",
            request=KeyRequest,
            result=Protected,
            run="maas_magics.core.protecting:make_key",
            summary="Make a key to encrypt models with, in a file that you alone can read.",
            example="%maas key ~/.maas.key\n%env MAAS_KEY=file:~/.maas.key",
        ),
        Verb(
            name="encrypt",
            request=EncryptRequest,
            result=ModelInfo,
            run="maas_magics.core.protecting:encrypt",
            summary="Encrypt a version with its exports and held-out rows; the readable one is removed.",
            example="%maas encrypt penguins",
        ),
        Verb(
            name="rotate-key",
            request=RotateKeyRequest,
            result=Protected,
            run="maas_magics.core.protecting:rotate_key",
            summary="Have the first key of MAAS_KEY open what is encrypted, in place of the one before.",
            example="%maas rotate-key penguins",
        ),
        Verb(
            name="sign",
            request=SignRequest,
            result=Protected,
            run="maas_magics.core.protecting:sign",
            summary="Sign a version and its exports, for those who open signed models alone.",
            example="%maas sign penguins --key release.pem --days 365",
        ),
        Verb(
            name="predict",
            request=PredictRequest,
            result=Prediction,
            run="maas_magics.core.dispatch:predict",
            summary="Predict with a model. A table gives a table of the same library, an array an array.",
        ),
    )
}
"""Those of this package."""


@cache
def _points() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP) if point.name not in VERBS}


def brought() -> tuple[str, ...]:
    """Names of the verbs of other packages, none of which is imported."""
    return tuple(sorted(_points()))


def find_verb(name: str) -> Verb:
    """The verb of a name.

    Parameters
    ----------
    name : str
        Of a verb of this package or of another one.

    Raises
    ------
    NotFound
        If there is no verb of that name here.
    """
    if name in VERBS:
        return VERBS[name]
    if name not in _points():
        raise NotFound(f"There is no verb {name[:40]!r}.", did_you_mean(name, (*VERBS, *brought())))
    found: Verb = _points()[name].load()
    return found


def verb_of(request: Request[Any]) -> Verb:
    """The verb that a request is of.

    Parameters
    ----------
    request : Request
        The request.

    Raises
    ------
    OptionError
        If nothing runs requests of its kind.
    """
    for name in VERBS:
        if VERBS[name].request is type(request):
            return VERBS[name]
    for name in brought():
        if find_verb(name).request is type(request):
            return find_verb(name)
    raise OptionError(f"Nothing runs a {type(request).__name__}.")
