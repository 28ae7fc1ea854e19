"""Models by name, version and alias."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from maas_magics.api.errors import InvalidName, ModelNotFound, StoreError, did_you_mean
from maas_magics.api.records import ModelRecord
from maas_magics.api.results import Artifact, ModelInfo
from maas_magics.core.store.manifest import read_manifest, rename
from maas_magics.core.store.storage import REPORT, open_storage, staging

UNREADABLE = "cannot be read"
"""Task of a version in a list whose manifest is broken; requesting the version itself says why."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
VARIANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+=-]{0,99}")


def check_name(name: str, what: str = "model name") -> str:
    """``name`` if it can be stored.

    Raises
    ------
    InvalidName
        For anything but letters, digits, ``_``, ``-`` and ``.``, or a name that begins with one of the last three.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name) or ".." in name:
        likely = re.sub(r"[^A-Za-z0-9_-]+", "_", str(name)).strip("_-")[:100] or "model"
        raise InvalidName(
            f"{str(name)[:120]!r} is not a valid {what}: letters, digits, '_', '-' and '.' only, a letter or digit "
            "first, 100 at most.",
            f"Try {likely!r}.",
        )
    return name


def split_ref(ref: str) -> tuple[str, int | None, str | None]:
    """Name, version, and alias or variant that ``NAME``, ``NAME:3``, ``NAME@alias`` or ``NAME:3@variant`` names."""
    whole, at, mark = str(ref).partition("@")
    name, colon, version = whole.partition(":")
    if colon and not re.fullmatch("[0-9]{1,15}", version):
        raise InvalidName(f"{ref!r} names no version: a number follows the colon.", f"{check_name(name)}:1")
    if at and not (VARIANT.fullmatch(mark) and ".." not in mark):
        check_name(mark, "alias or variant")
    return check_name(name), int(version) if colon else None, mark if at else None


class Store:
    """Published models.

    Parameters
    ----------
    place : str
        Folder, or fsspec URL.
    removed : callable, optional
        Gets the name of a model once every version of it is removed by one word.
    """

    def __init__(self, place: str, removed: Callable[[str], None] = lambda name: None) -> None:
        self.place = place
        self._removed = removed
        self.storage, self.work = open_storage(place)
        self._newest: dict[str, tuple[object, int]] = {}

    def resolve(self, ref: str) -> tuple[str, int]:
        """Name and version that a reference names now; of a variant, the version that it was made of.

        Raises
        ------
        ModelNotFound
        """
        return self.find(ref)[:2]

    def find(self, ref: str) -> tuple[str, int, str]:
        """Name, version and variant that a reference names now; the variant is empty where it names none.

        What stands behind ``@`` is an alias; else an export of the version, or of the newest one.

        Raises
        ------
        ModelNotFound
        """
        newest = self._newest.get(ref)
        if newest is not None and newest[0] == self.storage.stamp(ref):
            return ref, newest[1], ""
        name, version, mark = split_ref(ref)
        stamp = self.storage.stamp(name)
        versions = self.storage.versions(name)
        if not versions:
            raise ModelNotFound(
                f"There is no model {name!r}.", did_you_mean(name, self.storage.names()) or f"%train {name} --data …"
            )
        if version is None:
            aliases = self.storage.aliases(name) if mark is not None else {}
            if mark in aliases:
                return name, aliases[mark], ""
            if mark is None:
                self._newest[name] = stamp, versions[-1]
            return name, versions[-1], self._variant(name, versions[-1], mark, aliases)
        if version not in versions:
            shown = ", ".join(f"{name}:{number}" for number in versions[-12:])
            raise ModelNotFound(f"The model {name!r} has no version {version}.", f"There is: {shown}.")
        return name, version, self._variant(name, version, mark, {})

    def _variant(self, name: str, version: int, mark: str | None, aliases: Mapping[str, int]) -> str:
        """The export of a version that ``mark`` names."""
        if mark is None:
            return ""
        there = self._exports(name, version)
        if mark not in there:
            raise ModelNotFound(
                f"The model {name!r} has no alias {mark!r}, and {name}:{version} has no export of that name.",
                did_you_mean(mark, (*aliases, *there)) or f"{name}:{version}",
            )
        return mark

    def _exports(self, name: str, version: int) -> list[str]:
        """Exports of a version."""
        folder = self.folder(name, version) / "exports"
        return sorted(os.listdir(folder)) if folder.is_dir() else []

    def whole(self, ref: str) -> tuple[str, int]:
        """Name and version that a reference names, which is not a variant.

        Raises
        ------
        InvalidName
            If it is one.
        """
        name, version, variant = self.find(ref)
        if variant:
            raise InvalidName(
                f"{ref} is the variant {variant!r} of {name}:{version}; a version was expected.", f"{name}:{version}"
            )
        return name, version

    def folder(self, name: str, version: int) -> Path:
        """Local folder of a version, to read."""
        return self.storage.folder(name, version)

    def list(self) -> Sequence[ModelInfo]:
        """Newest version of every model, by name; one that cannot be read hides no other."""
        found = []
        for name in self.storage.names():
            with contextlib.suppress(ModelNotFound):
                found.append(self._shown(*self.resolve(name)))
        return found

    def get(self, ref: str) -> ModelInfo:
        """What a reference names."""
        return self._info(*self.resolve(ref))

    def versions(self, name: str) -> Sequence[ModelInfo]:
        """Every version, oldest first."""
        self.resolve(name)
        return [self._shown(name, version) for version in self.storage.versions(name)]

    def record(self, ref: str) -> ModelRecord:
        """All that is written down of the version, or of the variant of it, that a reference names."""
        name, version, variant = self.find(ref)
        folder = self.folder(name, version)
        manifest = read_manifest(folder)
        info = self._info(name, version)
        if variant:
            folder = folder / "exports" / variant
            made = msgspec.json.decode((folder / REPORT).read_bytes(), type=Artifact)
            info = msgspec.structs.replace(info, metrics=made.verification.metrics_after)
        return ModelRecord(
            info=info,
            variant=variant,
            plan=manifest.plan,
            params=manifest.params,
            history=manifest.history,
            best_epoch=manifest.best_epoch,
            seconds=manifest.seconds,
            bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        )

    def copy(self, ref: str, name: str) -> ModelInfo:
        """Publish the files of a version as the next version of another model."""
        source = self.folder(*self.whole(ref))
        check_name(name)
        with staging(self.work) as work:
            staged = work / "version"
            shutil.copytree(source, staged)
            rename(staged, name)
            version = self.storage.publish(name, staged)
        return self._info(name, version)

    def alias(self, ref: str, alias: str) -> None:
        """Make ``NAME@alias`` name the version that ``ref`` names now."""
        name, version = self.whole(ref)
        check_name(alias, "alias")
        taken = next((n for n in self.storage.versions(name) if alias in self._exports(name, n)), None)
        if taken is not None:
            raise InvalidName(
                f"{name}@{alias} names an export of {name}:{taken}, which the alias would stand before.",
                f"Try {alias + '-model'!r}.",
            )
        self.storage.set_alias(name, alias, version)

    def forget_trainings(self, name: str) -> None:
        """Keep nothing of the trainings of a model: their checkpoints hold its weights."""
        self._removed(name)

    def delete(self, ref: str) -> None:
        """Remove a version (``NAME:3``, ``NAME@alias``) or a whole model (``NAME``)."""
        name, version = self.whole(ref)
        whole = ref == name
        self.storage.delete(name, None if whole else version)
        for alias, number in self.storage.aliases(name).items():
            if whole or number == version:
                self.storage.set_alias(name, alias, None)
        self._newest.pop(name, None)
        if whole:
            self._removed(name)

    def _shown(self, name: str, version: int) -> ModelInfo:
        try:
            return self._info(name, version)
        except StoreError:
            return ModelInfo(name=name, version=version, task=UNREADABLE, architecture="")

    def _info(self, name: str, version: int) -> ModelInfo:
        folder = self.folder(name, version)
        info = read_manifest(folder).info
        exports = tuple(sorted(os.listdir(folder / "exports"))) if (folder / "exports").is_dir() else ()
        aliases = tuple(alias for alias, number in sorted(self.storage.aliases(name).items()) if number == version)
        return msgspec.structs.replace(info, name=name, version=version, exports=exports, aliases=aliases)
