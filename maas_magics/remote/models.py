"""Models that a service keeps."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from maas_magics.api.records import ModelRecord
from maas_magics.api.results import ModelInfo
from maas_magics.remote.client import Client


class RemoteModels:
    """The `ModelStore` of a service.

    Parameters
    ----------
    client : Client
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self) -> Sequence[ModelInfo]:
        """Newest version of every model, by name."""
        return self._several("/maas/v1/models")

    def get(self, ref: str) -> ModelInfo:
        """What ``NAME``, ``NAME:3`` or ``NAME@alias`` names."""
        answer = self._client.request("GET", f"/maas/v1/models/{_in_path(ref)}")
        info: ModelInfo = msgspec.json.decode(answer.content, type=ModelInfo)
        return info

    def versions(self, name: str) -> Sequence[ModelInfo]:
        """Every version of a model, oldest first."""
        return self._several(f"/maas/v1/models/{_in_path(name)}/versions")

    def record(self, ref: str) -> ModelRecord:
        """All that is written down of a version."""
        answer = self._client.request("GET", f"/maas/v1/models/{_in_path(ref)}/record")
        found: ModelRecord = msgspec.json.decode(answer.content, type=ModelRecord)
        return found

    def publish(self, candidate: str, name: str) -> ModelInfo:
        """Make a candidate of a sweep the next version of a model."""
        path = f"/maas/v1/models/{_in_path(candidate)}/published/{_in_path(name)}"
        info: ModelInfo = msgspec.json.decode(self._client.request("PUT", path, repeat=False).content, type=ModelInfo)
        return info

    def alias(self, ref: str, alias: str) -> None:
        """Make ``NAME@alias`` name the version that ``ref`` names now."""
        self._client.request("PUT", f"/maas/v1/models/{_in_path(ref)}/aliases/{_in_path(alias)}")

    def delete(self, ref: str) -> None:
        """Remove a version (``NAME:3``) or a whole model (``NAME``)."""
        self._client.request("DELETE", f"/maas/v1/models/{_in_path(ref)}", repeat=False)

    def _several(self, path: str) -> Sequence[ModelInfo]:
        found: tuple[ModelInfo, ...] = msgspec.json.decode(
            self._client.request("GET", path).content, type=tuple[ModelInfo, ...]
        )
        return found


def _in_path(text: str) -> str:
    return quote(str(text), safe=":@")
