"""Errors in the form that clients of OpenAI's API read."""

from __future__ import annotations

import msgspec

from maas_magics.api.errors import MaasError, NotFound

PATHS = ("/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/v1/images/generations", "/v1/models")
"""Paths that answer in that form."""

KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    501: "server_error",
    503: "overloaded_error",
}


def is_openai(path: str) -> bool:
    """Whether a path is one of that API.

    Parameters
    ----------
    path : str
        Of a request.
    """
    return path in PATHS or (path.startswith("/v1/models/") and path.count("/") == 3)


def in_their_form(status: int, error: MaasError) -> bytes:
    """An error as JSON.

    Parameters
    ----------
    status : int
        HTTP status.
    error : MaasError
        Message and hint.
    """
    code = "model_not_found" if isinstance(error, NotFound) else None
    told = {
        "message": f"{error.message} {error.hint}".strip(),
        "type": KINDS.get(status, "invalid_request_error"),
        "param": "model" if code else None,
        "code": code,
    }
    return msgspec.json.encode({"error": told})
