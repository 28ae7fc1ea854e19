"""Requests, results and errors as bytes, for another process or another machine.

Requests hold live objects in a notebook; `Uploaded`, `Graph` and `Code` stand for them
on the way. Nothing here is pickled: what cannot be expressed in plain values does not travel.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec

from maas_magics.api import errors
from maas_magics.api.errors import MaasError, NotFound, OptionError
from maas_magics.api.requests import Request
from maas_magics.api.verbs import Verb, find_verb, verb_of


class Uploaded(msgspec.Struct, frozen=True, tag=True, tag_field="$"):
    """Rows that were sent ahead as an Arrow stream.

    Attributes
    ----------
    digest : str
        SHA-256 of the stream.
    arrays : bool
        Whether the rows are arrays, not a table.
    notes : tuple of str
        Notes on how they were read.
    origin : str
        What they came from, such as a CSV file.
    """

    digest: str
    arrays: bool = False
    notes: tuple[str, ...] = ()
    origin: str = "table"


class Graph(msgspec.Struct, frozen=True, tag=True, tag_field="$"):
    """A module that was sent ahead as its exported graphs.

    Attributes
    ----------
    digest : str
        SHA-256 of the archive.
    name : str
        Name of its class.
    inputs : tuple of str
        Names of the arrays that it takes, in order; none for a row of numbers.
    heads : dict of str to tuple of int
        Shape of what each head answers for a row, by the name of its target, where there are several; their answers
        stand side by side in that of the graph.
    """

    digest: str
    name: str = "module"
    inputs: tuple[str, ...] = ()
    heads: dict[str, tuple[int, ...]] = {}


class Code(msgspec.Struct, frozen=True, tag=True, tag_field="$"):
    """A module as the Python source of a cell that makes it; run only where the owner allows code.

    Attributes
    ----------
    text : str
    name : str
        Name of its class.
    """

    text: str
    name: str = "module"


_STANDS = {kind.__name__: kind for kind in (Uploaded, Graph, Code)}


class _Sent(msgspec.Struct, frozen=True):
    kind: str
    fields: dict[str, Any]


class _Error(msgspec.Struct, frozen=True):
    error: str
    kind: str = "MaasError"
    hint: str = ""


class _ForeignError(msgspec.Struct, frozen=True):
    message: str
    type: str | None = None
    code: str | int | None = None


class _Foreign(msgspec.Struct, frozen=True):
    """An error in the form of OpenAI's API."""

    error: _ForeignError


def encode_request(request: Request[Any]) -> bytes:
    """A request as MessagePack.

    Parameters
    ----------
    request : Request
        Its live objects were replaced before, see `maas_magics.core.serialization`.

    Raises
    ------
    OptionError
        If a field holds a live object.
    """
    kind = verb_of(request).name
    fields = {name: getattr(request, name) for name in request.__struct_fields__}
    for name, value in fields.items():
        try:
            fields[name] = msgspec.to_builtins(value, builtin_types=(bytes,), enc_hook=_scalar)
        except (TypeError, ValueError):
            raise OptionError(
                f"{name} holds a {type(value).__name__}, which cannot be sent to another process.",
                f"Give {name} in plain values, or %connect kernel.",
            ) from None
    return msgspec.msgpack.encode(_Sent(kind, fields))


def decode_request(data: bytes) -> Request[Any]:
    """What `encode_request` wrote.

    Parameters
    ----------
    data : bytes
        MessagePack from any client.

    Raises
    ------
    OptionError
        If it is not a request.
    """
    try:
        sent = msgspec.msgpack.decode(data, type=_Sent)
        kind = find_verb(sent.kind).request
        made: Request[Any] = msgspec.convert({name: _standing(value) for name, value in sent.fields.items()}, kind)
        return made
    except NotFound as error:
        raise OptionError(f"There is no request {sent.kind[:40]!r} here.", error.hint) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise OptionError(f"The request cannot be read: {error}") from None


def _standing(value: Any, depth: int = 0) -> Any:
    if depth > 8:
        raise OptionError("The request is nested too deeply.")
    if isinstance(value, list):
        return [_standing(item, depth + 1) for item in value]
    if isinstance(value, dict) and isinstance(value.get("$"), str):
        kind = _STANDS.get(value["$"])
        if kind is None:
            raise OptionError(f"The request holds a {value['$'][:40]!r}, which is unknown here.")
        return msgspec.convert(value, kind)
    if isinstance(value, dict):
        return {name: _standing(item, depth + 1) for name, item in value.items()}
    return value


def uploads_of(value: Any) -> list[Uploaded]:
    """Rows that were sent ahead, in a field of a request: one, or those of a list or a dict.

    Parameters
    ----------
    value : Any
        The field.
    """
    if isinstance(value, Uploaded):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [found for part in parts for found in uploads_of(part)]


def _scalar(value: Any) -> Any:
    """Numbers and arrays of numpy and torch as Python's own."""
    plain = getattr(value, "tolist", None)
    if plain is None or getattr(value, "ndim", 9) > 1:
        raise TypeError(type(value).__name__)
    return plain()


class _Outcome(msgspec.Struct, frozen=True):
    result: Any = None
    error: _Error | None = None


def encode_outcome(result: Any, error: BaseException | None) -> bytes:
    """How a job ended, as MessagePack.

    Parameters
    ----------
    result : Any
        The result; not used where there is an error.
    error : BaseException or None
        What the job raised.
    """
    return msgspec.msgpack.encode(_Outcome(None if error else result, _told(error) if error else None))


def decode_outcome(verb: Verb, data: bytes) -> Any:
    """Result of a job; raises the error of one that has none.

    Parameters
    ----------
    verb : Verb
        The verb of the request that the job ran.
    data : bytes
        What `encode_outcome` wrote.
    """
    found = msgspec.msgpack.decode(data, type=_Outcome)
    if found.error is not None:
        raise _raised(found.error)
    return msgspec.convert(found.result, verb.result)


def verb_of_title(title: str) -> Verb:
    """Verb that a job's title (``"train NAME"``) names; raises `NotFound`.

    Parameters
    ----------
    title : str
        Title of a job.
    """
    return find_verb(title.partition(" ")[0])


def encode_error(error: BaseException) -> bytes:
    """An error as JSON: short text, hint and class; one that is not a `MaasError` as a message that names its class.

    Parameters
    ----------
    error : BaseException
        The error.
    """
    return msgspec.json.encode(_told(error))


def decode_error(data: bytes, otherwise: str) -> MaasError:
    """The error that `encode_error` wrote.

    Parameters
    ----------
    data : bytes
        What `encode_error` wrote, or what another server answered.
    otherwise : str
        Message of a `ServiceError` where ``data`` is not an error of ours.
    """
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        return _raised(msgspec.json.decode(data, type=_Error))
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        return _of_openai(msgspec.json.decode(data, type=_Foreign).error)
    return errors.ServiceError(otherwise)


def _told(error: BaseException) -> _Error:
    if isinstance(error, MaasError):
        kind = next(base for base in type(error).__mro__ if base.__module__ == errors.__name__)
        return _Error(error.message, kind.__name__, error.hint)
    return _Error(f"It failed with {type(error).__name__}: {str(error)[:500]}".rstrip(": "))


def _of_openai(found: _ForeignError) -> MaasError:
    """An error in the form of OpenAI's API as one of ours."""
    names = f"{found.type} {found.code}".lower()
    kinds = {"not_found": errors.NotFound, "authentication": errors.Refused, "permission": errors.Refused}
    kind = next((kind for name, kind in kinds.items() if name in names), None)
    if kind is None:
        kind = errors.OptionError if "invalid" in names or "badrequest" in names else errors.ServiceError
    return kind(found.message[:1_000])


def _raised(found: _Error) -> MaasError:
    kind = getattr(errors, found.kind, None)
    if not isinstance(kind, type) or not issubclass(kind, MaasError):
        kind = MaasError
    return kind(found.error, found.hint)
