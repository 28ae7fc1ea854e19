"""A backend for any server of the Open Inference Protocol, for inference only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa

from maas_magics.api.backend import Inferred
from maas_magics.api.errors import DataError, MaasError, NotFound, OptionError, ServiceError
from maas_magics.api.requests import GenerateRequest, PredictRequest
from maas_magics.api.results import ModelInfo, Prediction
from maas_magics.api.signature import NUMPY, Signature, TensorSpec
from maas_magics.api.stream import ChunkStream
from maas_magics.core.chunks import in_one_pass
from maas_magics.core.data.arrow import Array, numbers, tensors
from maas_magics.core.data.sources import Source, open_source, typed
from maas_magics.core.features.of_spec import of_spec
from maas_magics.core.features.processor import Processor
from maas_magics.remote import generate_stream, oip
from maas_magics.remote.client import Client
from maas_magics.remote.only_inference import OnlyInference, OnlyModels, refuse
from maas_magics.remote.predictions import join

ROWS = 4_096
"""Rows of one request."""


PROTOCOL = "the Open Inference Protocol"


class _Models(OnlyModels):
    """What a server reports of its models."""

    def list(self) -> Sequence[ModelInfo]:
        """Models of the repository; none where the server does not list them."""
        import msgspec

        with suppress(MaasError, msgspec.MsgspecError):
            answer = self._client.request("POST", "/v2/repository/index", content=b"{}", patience=2.0)
            index = msgspec.json.decode(answer.content, type=list[dict[str, Any]])
            names = dict.fromkeys(str(entry.get("name")) for entry in index if entry.get("state") != "UNAVAILABLE")
            return [self.get(name) for name in names]
        return []

    def get(self, ref: str) -> ModelInfo:
        """What a name stands for."""
        try:
            told = oip.metadata(self._client, ref)
        except MaasError as error:
            if isinstance(error, ServiceError) and "answered" not in error.message:
                raise
            raise NotFound(f"{self._client.url} has no model {ref!r}: {error.message}", error.hint) from None
        version = next((int(number) for number in reversed(told.versions) if number.isdecimal()), 0)
        return ModelInfo(
            name=told.name,
            version=version,
            task="inference",
            architecture=told.platform,
            signature=Signature(told.inputs, told.outputs),
        )


class InferenceBackend(OnlyInference):
    """Runs the models of a server.

    Parameters
    ----------
    client : Client
        Speaks to the server.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(client, PROTOCOL)
        self.models = _Models(client, PROTOCOL)
        extensions = oip.server(client).extensions
        self._binary = any(name in extensions for name in oip.BINARY)

    def _predict(self, request: PredictRequest, notify: Any) -> Prediction:
        if request.top or request.probabilities:
            raise OptionError("This server returns the plain outputs of its model.", "Drop --top and --proba.")
        if request.sampling or request.max_tokens is not None:
            raise OptionError("This server takes no parameters of texts.", "Drop --temperature, --max-tokens …")
        specs = oip.metadata(self._client, request.model).inputs
        texts = [spec.name for spec in specs if spec.datatype == "BYTES"]
        source = typed(open_source(request.data, request.csv), texts)
        parts, done, model = [], 0, request.model
        warnings: dict[str, None] = {}
        for table in source.chunks(request.batch_size or ROWS):
            if not table.num_rows:
                continue
            found = oip.infer(self._client, request.model, encode(specs, table, source), self._binary)
            model = found.model
            warnings |= dict.fromkeys(found.warnings)
            parts.append({name: _column(values) for name, values in found.outputs.items()})
            done += table.num_rows
            notify(done, source.rows or 0)
        if not parts:
            raise DataError("The data has no rows.", "Give at least one row to predict.")
        columns = join(parts)
        if "prediction" not in columns:
            first = next(iter(columns))
            columns = {"prediction": columns.pop(first), **columns}
        return Prediction(model=model, columns=columns, cautions=tuple(warnings))

    def infer(self, model: str, inputs: Mapping[str, Any]) -> Inferred:
        """Tensors in, tensors out."""
        given = {name: np.asarray(values) for name, values in inputs.items()}
        return oip.infer(self._client, model, given, self._binary)

    def generate(self, request: GenerateRequest) -> ChunkStream:
        """Predict as a stream, where the server has one for texts; else in one chunk."""
        specs: Sequence[TensorSpec] = ()
        with suppress(MaasError):  # not every server that writes reports what its models take
            specs = oip.metadata(self._client, request.model).inputs
        found = generate_stream.generate(self._client, request, specs)
        return in_one_pass(request, self.predict) if found is None else found

    def load(self, model: str, kv_memory: int | None = None) -> None:
        """Have the server load a model."""
        if kv_memory is not None:
            refuse(PROTOCOL, "takes no kv-memory")
        self._client.request("POST", f"/v2/repository/models/{model}/load", content=b"{}")

    def unload(self, model: str) -> None:
        """Have the server unload a model."""
        self._client.request("POST", f"/v2/repository/models/{model}/unload", content=b"{}")


def encode(specs: Sequence[TensorSpec], table: pa.Table, source: Source) -> dict[str, Array]:
    """Rows as the inputs that a server declares; where it declares none, each column as it is.

    One input of several numbers a row takes a table of as many columns.
    """
    if not specs:
        return {name: _as_is(table.column(name)) for name in table.column_names}
    if len(specs) == 1 and table.num_columns == 1 and source.arrays:
        table = table.rename_columns([specs[0].name])
    only = specs[0]
    if len(specs) == 1 and only.name not in table.column_names and only.shape[1:] in ((table.num_columns,), (-1,)):
        stacked = np.stack([numbers(values) for values in table.columns], axis=1)
        return {only.name: stacked.astype(NUMPY[only.datatype])}
    arrays = Processor.of([of_spec(spec, table) for spec in specs], "raw").encode(table)
    return {
        spec.name: values.astype(NUMPY[spec.datatype], copy=False).reshape(_shape(spec, values))
        for spec, values in zip(specs, arrays, strict=True)
    }


def _shape(spec: TensorSpec, values: Array) -> tuple[int, ...]:
    return (len(values),) if len(spec.shape) == 1 else values.shape


def _as_is(values: pa.ChunkedArray) -> Array:
    if isinstance(values.type, pa.FixedShapeTensorType):
        return tensors(values)
    return np.asarray(values.to_numpy())


def _column(values: Array) -> Array:
    if values.ndim > 2:
        values = values.reshape(len(values), -1)
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
