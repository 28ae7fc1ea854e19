"""Pretrained networks of Hugging Face folders: weights as safetensors, a configuration, a tokenizer. No code of theirs.

A folder on disk is read as it is; a name such as ``intfloat/e5-small-v2`` is fetched from the hub, once, to its cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from maas_magics.api.errors import ModelError, require
from maas_magics.core.data.media import OPENS

NEEDED = ("*.json", "*.safetensors", "*.txt", "*.model")
"""Files that are fetched of a model; weights of other formats may run code when they are read."""

NAME = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)?")
"""Of a network on the hub."""

OFFERED = "MAAS_PRETRAINED"
"""Folders, in a service's environment, below which it opens pretrained networks for its clients."""

_HERE: ContextVar[tuple[Path, ...]] = ContextVar("written_here", default=())
"""Folders that this package wrote itself; see `written_here`."""

LONGEST = 256
"""Tokens that a text is cut at, where the network takes more."""


@dataclass(frozen=True)
class HubFolder:
    """A pretrained network on disk.

    Attributes
    ----------
    path : Path
    config : mapping
        Its ``config.json``.
    revision : str
        Commit it was fetched at; empty of a folder of one's own.
    digest : str
        SHA-256 of its weights.
    """

    path: Path
    config: Mapping[str, Any]
    revision: str
    digest: str

    @property
    def tokenizer(self) -> str:
        """The JSON of its tokenizer.

        Raises
        ------
        ModelError
            If it has none that the tokenizers library reads.
        """
        file = self.path / "tokenizer.json"
        if file.is_file():
            return file.read_text(encoding="utf-8")
        require("transformers", "transformers", "A pretrained network", "maas-magics[text]")
        from transformers import AutoTokenizer

        try:
            found = AutoTokenizer.from_pretrained(self.path, use_fast=True, trust_remote_code=False)
            return str(found.backend_tokenizer.to_str())
        except Exception as error:  # of many kinds
            raise ModelError(f"{self.path} has no tokenizer that can be read: {error}", "tokenizer.json") from error

    @property
    def longest(self) -> int:
        """Tokens that its network takes of a text, at most `LONGEST`."""
        return min(self.most, LONGEST)

    @property
    def most(self) -> int:
        """Tokens that its network takes of a text; `LONGEST` where it does not say."""
        offset = 2 if self.config.get("model_type") in ("roberta", "xlm-roberta", "camembert") else 0
        positions = self.config.get("max_position_embeddings")
        limits = [positions - offset if isinstance(positions, int) else None]
        for name, key in (
            ("tokenizer_config.json", "model_max_length"),
            ("sentence_bert_config.json", "max_seq_length"),
        ):
            limits.append(self.read(name).get(key))
        whole = [int(limit) for limit in limits if isinstance(limit, (int, float)) and 0 < limit < 1e6]
        return min(whole, default=LONGEST)

    @property
    def pooling(self) -> str:
        """How sentence-transformers makes one vector of a text's tokens: ``"mean"``, ``"cls"``; empty if unknown."""
        found = self.read("1_Pooling/config.json")
        cls, mean = found.get("pooling_mode_cls_token"), found.get("pooling_mode_mean_tokens")
        said = found.get("pooling_mode") or ("cls" if cls and not mean else "mean" if mean and not cls else "")
        return str(said) if said in ("mean", "cls") else ""

    def named(self, ref: str) -> dict[str, Any]:
        """Hyperparameters that say which network it is: ``base``, ``digest``, ``revision`` and ``config``.

        Parameters
        ----------
        ref : str
            What it was opened by.
        """
        config = json.dumps(dict(self.config), sort_keys=True)
        return {"base": ref, "digest": self.digest, "revision": self.revision, "config": config}

    def read(self, name: str) -> dict[str, Any]:
        """One of its files of JSON; empty where there is none.

        Raises
        ------
        ModelError
            If it is not JSON.
        """
        return _json(self.path / name)


def open_folder(ref: str) -> HubFolder:
    """The pretrained network that a reference names: a folder, or a name on the hub.

    Parameters
    ----------
    ref : str
        ``FOLDER``, ``OWNER/NAME`` or ``OWNER/NAME@REVISION``.

    Raises
    ------
    ModelError
        If there is none, it has no weights as safetensors, or it needs code of its own.
    """
    folder = Path(ref).expanduser()
    check_offered(folder, ref)
    path, revision = (folder, "") if folder.is_dir() else _fetched(ref)
    if (path / "model_index.json").is_file():
        return _pipeline(path, revision, ref)
    if not (path / "config.json").is_file() and (path / "artifact.json").is_file():
        there = (path / "model.onnx").is_file()
        hint = (
            f"%maas import {ref} --as NAME" if there else "%export NAME --format onnx makes one that can be imported."
        )
        raise ModelError(f"{ref} is an export of a model.", hint)
    if not (path / "config.json").is_file():
        raise ModelError(
            f"{ref} holds no config.json.", "Give a folder as save_pretrained writes it: --model hf:FOLDER"
        )
    config = _json(path / "config.json")
    if "auto_map" in config:
        raise ModelError(f"{ref} needs code of its own, which is never run.", "Give a network that transformers has.")
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise ModelError(
            f"{ref} holds no weights as safetensors.", "save_pretrained(FOLDER) of transformers writes them."
        )
    return HubFolder(path, config, revision, digest_of(weights))


def _pipeline(path: Path, revision: str, ref: str) -> HubFolder:
    """A folder of diffusers: the configuration is that of the pipeline, with those of its parts by their names."""
    parts = {file.parent.name: _json(file) for file in sorted(path.glob("*/config.json"))}
    weights = [file for name in parts for file in sorted((path / name).glob("*.safetensors"))]
    if not weights:
        raise ModelError(f"{ref} holds no weights as safetensors.", "save_pretrained(FOLDER) of diffusers writes them.")
    return HubFolder(path, {**_json(path / "model_index.json"), **parts}, revision, digest_of(weights))


def check_offered(path: Path, ref: str) -> None:
    """Raise `ModelError` where a service's owner does not offer what lies at a path.

    Parameters
    ----------
    path : Path
        Of a folder or a file.
    ref : str
        As it was named.
    """
    if not OPENS.get() and not _is_offered(path):
        raise ModelError(
            f"The service opens no pretrained network {ref!r}.",
            f"Its owner names the folders that hold some: {OFFERED}=FOLDER in its environment. Of this machine's own: "
            f"os.environ[{OFFERED!r}] = 'FOLDER', %serve --stop, %connect local.",
        )


def digest_of(files: Sequence[Path]) -> str:
    """SHA-256 of the digests of some files.

    Parameters
    ----------
    files : sequence of Path
        In their order.
    """
    return _digest(tuple(files), tuple(file.stat().st_mtime_ns for file in files))


@contextmanager
def written_here(folder: Path) -> Iterator[None]:
    """Open a folder while the block lasts that this package wrote itself, also where a service opens none by its path.

    Parameters
    ----------
    folder : Path
        Such as what a GGUF file was unpacked to.
    """
    token = _HERE.set((*_HERE.get(), folder))
    try:
        yield
    finally:
        _HERE.reset(token)


def _is_offered(folder: Path) -> bool:
    """Whether a service's owner lets its clients train what a folder holds, or this package wrote it itself."""
    named = [Path(one) for one in os.environ.get(OFFERED, "").split(os.pathsep) if one]
    offered = [one.resolve() for one in (*named, *_HERE.get())]
    found = folder.resolve()
    return any(root == found or root in found.parents for root in offered)


def _fetched(ref: str) -> tuple[Path, str]:
    require("huggingface_hub", "huggingface_hub", "A network of the hub", "maas-magics[text]")
    from huggingface_hub import snapshot_download

    name, _, revision = ref.partition("@")
    if not NAME.fullmatch(name):
        raise ModelError(f"There is no folder {ref!r}.", "--model hf:FOLDER, or hf:OWNER/NAME of the hub.")
    try:
        path = Path(snapshot_download(name, revision=revision or None, allow_patterns=list(NEEDED)))
    except Exception as error:  # of the network, the hub, or the name
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"There is no folder {ref!r}, and the hub gives none: {first}",
            "Name a file, a folder, or OWNER/NAME of the hub.",
        ) from error
    return path, path.name


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file} is not JSON: {error}", "Give a folder as save_pretrained writes it.") from None
    return found if isinstance(found, dict) else {}


@lru_cache(maxsize=32)
def _digest(files: tuple[Path, ...], changed: tuple[int, ...]) -> str:
    """Of some files as they were at a time."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
