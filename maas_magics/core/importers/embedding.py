"""Sentence encoders: a vector of length 1 for each text."""

from __future__ import annotations

from typing import Any

import msgspec

from maas_magics.api.errors import ModelError
from maas_magics.core.importers import Imported, importers
from maas_magics.core.importers.classification import text_feature
from maas_magics.core.networks.hub import HubFolder
from maas_magics.core.networks.kinds import kind_of
from maas_magics.core.tasks.embedding import Embedding

POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
"""Ways to one vector, by the words of sentence-transformers."""


class SentenceEmbedding:
    """A folder of sentence-transformers, or any encoder of texts, of which the mean over tokens is taken."""

    def accepts(self, folder: HubFolder) -> bool:
        """Whether a folder says what its modules are."""
        return (folder.path / "modules.json").is_file() and kind_of(folder) == "text"

    def read(self, folder: HubFolder, column: str) -> Imported:
        """The text, and how its tokens' vectors become one."""
        name = column or "text"
        pooling = "mean"
        for part in _modules(folder):
            kind = str(part.get("type", "")).rpartition(".")[2]
            if kind == "Pooling":
                pooling = _pooling(folder, str(part.get("path", "")))
            elif kind not in ("Transformer", "Normalize"):
                raise ModelError(
                    f"{folder.path} has a module {kind!r}, which is not made here.", "Transformer, Pooling"
                )
        return Imported("hf", text_feature(folder, name), Embedding((name, name)), {"pooling": pooling})


def _modules(folder: HubFolder) -> list[dict[str, Any]]:
    file = folder.path / "modules.json"
    if not file.is_file():
        return []
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[dict[str, Any]])
    except msgspec.MsgspecError as error:
        raise ModelError(f"{file} cannot be read: {error}", "Give a folder as save writes it.") from None


def _pooling(folder: HubFolder, place: str) -> str:
    known = folder.read(f"{place}/config.json")
    modes = [name for name, on in known.items() if name.startswith("pooling_mode") and on is True]
    mode = known.get("pooling_mode")  # as newer versions write it
    found = [POOLINGS[name] for name in modes if name in POOLINGS] or [str(mode)] * (mode in POOLINGS.values())
    if len(found) != 1 or len(modes) > 1:
        raise ModelError(f"{folder.path} pools by {', '.join(modes) or mode}.", "The mean, or the first token.")
    return found[0]


importers.register("embedding")(SentenceEmbedding())
