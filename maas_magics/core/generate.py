"""From a request to the stream of its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.requests import GenerateRequest
from maas_magics.api.signature import NUMPY, TensorSpec
from maas_magics.core.chunks import ChunkReader, check, in_one_pass
from maas_magics.core.data.arrow import Array
from maas_magics.core.inference.inputs import fit_inputs
from maas_magics.core.inference.loader import Loader
from maas_magics.core.inference.predict import predict


def generate(request: GenerateRequest, loader: Loader) -> ChunkReader:
    """Begin an answer; of a model that answers in one pass it is there at once, as one chunk.

    Raises
    ------
    OptionError
        If a value of the request is out of range, or the model's sampler does not know a parameter.
    DataError
        If the inputs do not fit the signature.
    """
    check(request)
    generator = loader.generator(request.model)
    if generator is None:
        from maas_magics.core.inference.transcribing import transcribed

        written = transcribed(request, loader)
        return written if written is not None else in_one_pass(request, lambda asked: predict(asked, loader))
    if _is_conversation(request.data) and not hasattr(generator.loop.session, "conversation"):
        raise DataError(f"{request.model} writes no texts, and so holds no conversation.", "%predict asks it.")
    inputs = one_row(generator.inputs, _as_text(generator.loop.session, request.data))
    try:
        sampler = generator.loop.session.sampler(request.params)
    except (TypeError, ValueError) as error:
        raise OptionError(f"The parameters are not valid for {generator.loop.ref}: {error}") from None
    batch = request.priority == "batch"
    return generator.loop.generate(inputs, sampler, request.max_steps, request.timeout, batch=batch)


def _is_conversation(data: Any) -> bool:
    """Whether data are messages, each of someone."""
    messages = data.get("messages") if isinstance(data, Mapping) else None
    return isinstance(messages, list) and all(isinstance(one, Mapping) and "role" in one for one in messages)


def _as_text(session: Any, data: Any) -> Any:
    """Data for a model that writes: a conversation as the text that it is for the model."""
    if isinstance(data, Mapping) and "messages" in data and hasattr(session, "conversation"):
        if not set(data) <= {"messages", "tools", "calls"}:
            named = ", ".join(sorted(map(repr, set(data) - {"messages", "tools", "calls"})))
            raise DataError(f"A conversation has messages, tools and calls; {named} was given too.", "Leave it out.")
        return session.conversation(data["messages"], data.get("tools") or (), data.get("calls", False))
    return data


def one_row(specs: Sequence[TensorSpec], data: Any) -> list[Array]:
    """Inputs of one row in the order of the signature.

    Parameters
    ----------
    specs : sequence of TensorSpec
    data : Any
        Arrays, lists, numbers or texts by name, or one alone where there is one input; axes of 1 may be left out.

    Raises
    ------
    DataError
        If they do not fit.
    """
    if not isinstance(data, Mapping):
        if len(specs) != 1:
            names = ", ".join(repr(spec.name) for spec in specs)
            raise DataError(f"The model has {len(specs)} inputs: {names}.", "Give a dict of them by name.")
        data = {specs[0].name: data}
    known = {spec.name: spec for spec in specs}
    inputs = {str(name): _array(known.get(name), values) for name, values in data.items()}
    found = fit_inputs(specs, inputs)
    if len(found[0]) != 1:
        raise DataError(f"The inputs have {len(found[0])} rows; one answer is for one row.", "Call it for each row.")
    return found


def _array(spec: TensorSpec | None, values: Any) -> Array:
    try:
        found = np.asarray(values)
    except ValueError:  # lists of different lengths
        raise DataError(
            f"The input {spec.name if spec else ''!r} is not an array: its rows differ in length."
        ) from None
    if spec is None:
        return found
    if found.dtype.kind in "US" or not found.size:
        found = found.astype(NUMPY[spec.datatype] if not found.size or spec.datatype == "BYTES" else found.dtype)
    return found.reshape((1,) * (len(spec.shape) - found.ndim) + found.shape)
