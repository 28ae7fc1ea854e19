"""The OpenAPI description of what a service answers."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

import msgspec

from maas_magics.api.signature import NUMPY
from maas_magics.api.verbs import VERBS
from maas_magics.service.gate import OPEN
from maas_magics.service.openai.bodies import Chat, Completion, Embeddings
from maas_magics.service.openai.images import Images

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
_LETTERS = "[A-Za-z0-9][A-Za-z0-9_-]{0,98}"
NAME: Schema = {"type": "string", "pattern": f"^{_LETTERS}$"}
REF: Schema = {
    "type": "string",
    "pattern": f"^{_LETTERS}(:[1-9][0-9]{{0,8}}|@{_LETTERS})?$",
    "description": "NAME, NAME:3 or NAME@alias",
}
DATATYPE: Schema = {"type": "string", "enum": list(NUMPY)}
PARAMETERS: Schema = {"type": "object"}
SHAPE: Schema = {"type": "array", "items": WHOLE}
ROWS: Schema = {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 32}
VALUES: Schema = {
    "type": "array",
    "description": "Values of the datatype, flat or nested as the shape says; null is a missing number or text.",
}


def _object(required: str, **properties: Schema) -> Schema:
    return {"type": "object", "required": required.split(), "properties": properties}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _of(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


SCHEMAS: dict[str, Schema] = {
    "Error": _object("error", error=TEXT, kind=TEXT, hint=TEXT),
    "Health": _object("live ready", live={"type": "boolean"}, ready={"type": "boolean"}),
    "Server": _object(
        "name version extensions", name=TEXT, version=TEXT, extensions=_list(TEXT), limits={"type": "object"}
    ),
    "TensorSpec": _object("name datatype shape", name=TEXT, datatype=DATATYPE, shape=SHAPE),
    "Model": _object(
        "name versions platform inputs outputs",
        name=TEXT,
        versions=_list(TEXT),
        platform=TEXT,
        inputs=_list(_of("TensorSpec")),
        outputs=_list(_of("TensorSpec")),
    ),
    "Tensor": _object(
        "name datatype shape", name=TEXT, datatype=DATATYPE, shape=SHAPE, data=VALUES, parameters=PARAMETERS
    ),
    "Input": _object(
        "name datatype shape data", name=TEXT, datatype=DATATYPE, shape=ROWS, data=VALUES, parameters=PARAMETERS
    ),
    "Inference": _object(
        "inputs",
        id=TEXT,
        parameters=PARAMETERS,
        inputs={**_list(_of("Input")), "minItems": 1},
        outputs=_list(_object("name", name=TEXT, parameters=PARAMETERS)),
    ),
    "Inferred": _object(
        "model_name outputs",
        model_name=TEXT,
        model_version=TEXT,
        id=TEXT,
        parameters=PARAMETERS,
        outputs=_list(_of("Tensor")),
    ),
    "Statistics": _object("model_stats", model_stats=_list({"type": "object"})),
    "Index": _list(_object("name version state", name=TEXT, version=TEXT, state=TEXT, reason=TEXT)),
    "Job": _object("id title model state created", id=TEXT, title=TEXT, model=TEXT, state=TEXT, created=NUMBER),
    "Status": _object("up requests rows", up=NUMBER, requests=WHOLE, rows=WHOLE, milliseconds=NUMBER, waiting=WHOLE),
    "Generation": _object(
        "inputs",
        inputs={"description": "Inputs of one row by name, or the only one."},
        parameters=PARAMETERS,
        max_steps={"type": "integer", "minimum": 1},
        timeout={"type": "number", "exclusiveMinimum": 0},
    ),
    "Text": _object("text_input", text_input=TEXT, parameters=PARAMETERS),
    "OpenAIError": _object(
        "error",
        error=_object(
            "message type param code",
            message=TEXT,
            type=TEXT,
            param={"type": ["string", "null"]},
            code={"type": ["string", "null"]},
        ),
    ),
    "Any": {},
}

_REQUESTS = [verb.request for verb in VERBS.values()]
_BODIES_OF_OPENAI = {"completion": Completion, "chat": Chat, "embeddings": Embeddings, "images": Images}
_STRUCTS = [*_REQUESTS, *_BODIES_OF_OPENAI.values()]
SCHEMAS |= msgspec.json.schema_components(_STRUCTS, ref_template="#/components/schemas/{name}")[1]

BYTES: Schema = {"type": "string", "format": "binary"}
REQUEST: Schema = BYTES | {
    "description": "MessagePack of `kind` and `fields`: "
    + ", ".join(f"{name} with those of {verb.request.__name__}" for name, verb in VERBS.items())
    + ".",
}
BINARY = "application/octet-stream"

_BODIES: dict[str, tuple[str, Schema]] = {
    "inference": ("application/json", _of("Inference")),
    "generation": ("application/json", _of("Generation")),
    "text": ("application/json", _of("Text")),
    **{name: ("application/json", _of(kind.__name__)) for name, kind in _BODIES_OF_OPENAI.items()},
    "object": ("application/json", {"type": "object"}),
    "request": ("application/msgpack", REQUEST),
    "rows": ("application/vnd.apache.arrow.stream", BYTES),
    "bytes": ("application/offset+octet-stream", BYTES),
}

_QUERIES: dict[str, Schema] = {
    "wait": NUMBER,
    "after": WHOLE,
    "follow": {"type": "boolean"},
    "keep": {"type": "number", "minimum": 0, "maximum": 60},
    "top": WHOLE,
    "probabilities": {"type": "boolean"},
    "arrays": {"type": "boolean"},
    "writing": TEXT | {"description": "How a model that writes is to write: JSON with max_tokens, temperature …"},
    "from": {"type": "string", "enum": ["table", "polars", "arrays", "csv", "file", "cell"]},
}

_PLACES: dict[str, Schema] = {
    "model": REF,
    "ref": REF,
    "version": {"type": "string", "pattern": "^[1-9][0-9]{0,8}$"},
    "digest": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
}
"""Types of the parts of a path; names by default."""

_MODEL, _VERSION = "/v2/models/{model}", "/versions/{version}"

# Path, method, what it does, status, answer (a schema, or a media type), body, queries and headers.
OPERATIONS: tuple[tuple[str, str, str, int, str, str, str], ...] = (
    ("/v2/health/live", "get", "Whether the service lives.", 200, "Health", "", ""),
    ("/v2/health/ready", "get", "Whether the service answers.", 200, "Health", "", ""),
    ("/openapi.json", "get", "This description.", 200, "Any", "", ""),
    ("/v2", "get", "Name, version and extensions.", 200, "Server", "", ""),
    ("/v2/models/stats", "get", "Statistics of every model.", 200, "Statistics", "", ""),
    *(
        entry
        for path in (_MODEL, _MODEL + _VERSION)
        for entry in (
            (path, "get", "Inputs and outputs of a model.", 200, "Model", "", ""),
            (path + "/ready", "get", "Whether a model answers.", 200, "Any", "", ""),
            (path + "/config", "get", "How a model is run.", 200, "Any", "", ""),
            (path + "/stats", "get", "Statistics of a model.", 200, "Statistics", "", ""),
            (path + "/infer", "post", "Run a model.", 200, "Inferred", "inference",
             "header:inference-header-content-length"),
            (path + "/generate", "post", "Write a text.", 200, "Any", "text", ""),
            (path + "/generate_stream", "post", "Write a text, as it comes.", 200, "text/event-stream", "text", ""),
        )
    ),
    ("/v2/repository/index", "post", "Models of the repository.", 200, "Index", "object", ""),
    ("/v2/repository/models/{model}/load", "post", "Load a model.", 200, "Any", "object", ""),
    ("/v2/repository/models/{model}/unload", "post", "Unload a model.", 200, "Any", "object", ""),
    ("/maas/v1/status", "get", "What the service does.", 200, "Status", "", ""),
    ("/metrics", "get", "Metrics for Prometheus.", 200, "text/plain", "", ""),
    ("/maas/v1/jobs", "get", "Every job, newest first.", 200, "Any", "", ""),
    ("/maas/v1/jobs", "post", "Submit a job.", 201, "Job", "request", "header:idempotency-key"),
    ("/maas/v1/jobs/{id}", "get", "A job.", 200, "Job", "", ""),
    ("/maas/v1/jobs/{id}/events", "get", "Events of a job.", 200, "text/event-stream", "",
     "after follow header:last-event-id"),
    ("/maas/v1/jobs/{id}/stop", "post", "Stop a job.", 202, "Job", "", ""),
    ("/maas/v1/jobs/{id}/pause", "post", "Keep the state of a training, and let others run.", 202, "Job", "", ""),
    ("/maas/v1/jobs/{id}/resume", "post", "Resume a training that was paused.", 202, "Job", "", ""),
    ("/maas/v1/jobs/{id}/result", "get", "Result of a job.", 200, "application/msgpack", "", "wait"),
    ("/maas/v1/models", "get", "Newest version of every model.", 200, "Any", "", ""),
    ("/maas/v1/loaded", "get", "Models that are open, or were closed.", 200, "Any", "", ""),
    ("/maas/v1/models/{ref}", "get", "A version of a model.", 200, "Any", "", ""),
    ("/maas/v1/models/{ref}", "delete", "Remove a version, or a model.", 204, "", "", ""),
    ("/maas/v1/models/{ref}/versions", "get", "Every version of a model.", 200, "Any", "", ""),
    ("/maas/v1/models/{ref}/record", "get", "All that is written down of a version.", 200, "Any", "", ""),
    ("/maas/v1/models/{ref}/published/{name}", "put", "Make a candidate a version of a model.", 200, "Any", "", ""),
    ("/maas/v1/models/{ref}/aliases/{alias}", "put", "Give a version a name of its own.", 204, "", "", ""),
    ("/maas/v1/models/{ref}/exports/{variant}", "get", "Files of an export.", 200, "application/msgpack", "", ""),
    ("/maas/v1/models/{ref}/predict", "post", "Predict rows with a model.", 200, "application/vnd.apache.arrow.stream",
     "rows", "top probabilities writing arrays from"),
    ("/maas/v1/models/{ref}/generate", "post", "Begin an answer in chunks.", 200, "text/event-stream", "generation",
     "keep arrays from"),
    ("/maas/v1/generations/{id}", "get", "Resume an answer in chunks.", 200, "text/event-stream", "",
     "after header:last-event-id"),
    ("/maas/v1/generations/{id}", "delete", "Cancel an answer in chunks.", 204, "", "", ""),
    ("/v1/models", "get", "Models that write, draw, or make vectors of texts.", 200, "Any", "", ""),
    ("/v1/models/{ref}", "get", "One of them.", 200, "Any", "", ""),
    ("/v1/completions", "post", "Continue texts.", 200, "Any", "completion", ""),
    ("/v1/chat/completions", "post", "Answer a conversation.", 200, "Any", "chat", ""),
    ("/v1/embeddings", "post", "Make vectors of texts.", 200, "Any", "embeddings", ""),
    ("/v1/images/generations", "post", "Draw pictures.", 200, "Any", "images", ""),
    ("/maas/v1/data/{digest}", "head", "How much of some data is there.", 200, "", "", ""),
    ("/maas/v1/data/{digest}", "patch", "Send data.", 204, "", "bytes", "header:upload-offset header:upload-length"),
)  # fmt: skip


def _operation(path: str, does: str, status: int, answer: str, body: str, takes: str) -> Schema:
    content: Schema = {}
    error = "OpenAIError" if path.startswith("/v1/") else "Error"
    if answer in SCHEMAS:
        content = {"application/json": {"schema": _of(answer)}}
    elif answer:
        content = {answer: {}}
    places = _PLACES | ({"model": NAME} if "{version}" in path else {})
    parameters = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": places.get(part[1:-1], NAME)}
        for part in path.split("/")
        if part[:1] == "{"
    ]
    for word in takes.split():
        place, _, name = word.rpartition(":")
        parameters.append({"name": name, "in": place or "query", "schema": TEXT if place else _QUERIES[name]})
    found: Schema = {
        "summary": does,
        "parameters": parameters,
        "responses": {
            str(status): {"description": does, **({"content": content} if content else {})},
            "default": {"description": "What was wrong.", "content": {"application/json": {"schema": _of(error)}}},
        },
    }
    if path in OPEN:
        found["security"] = []
    if body:
        kind, schema = _BODIES[body]
        found["requestBody"] = {"content": {kind: {"schema": schema}}}
    if body == "inference":  # JSON and bytes of tensors, both ways
        found["requestBody"]["content"][BINARY] = content[BINARY] = {"schema": BYTES}
    return found


@cache
def describe() -> bytes:
    """The description as JSON."""
    paths: dict[str, Schema] = {}
    for path, method, does, status, answer, body, takes in OPERATIONS:
        paths.setdefault(path, {})[method] = _operation(path, does, status, answer, body, takes)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "maas_magics", "version": version("maas-magics")},
            "paths": paths,
            "components": {
                "schemas": SCHEMAS,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{"token": []}],
        }
    )
