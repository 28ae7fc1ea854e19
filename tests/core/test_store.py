"""Names, versions and aliases, in a folder and in a bucket."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from publishing import marks, put, stage

from maas_magics.api.errors import InvalidName, ModelNotFound, StoreError
from maas_magics.core.store.models import Store, check_name, split_ref
from maas_magics.core.store.storage import Bucket, Folder


@pytest.fixture(params=["folder", "memory", "file"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store of every kind."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    places = {"folder": str(tmp_path), "memory": f"memory://{uuid4().hex}", "file": f"file://{tmp_path}/bucket"}
    store = Store(places[request.param])
    assert isinstance(store.storage, Folder if request.param == "folder" else Bucket)
    return store


@pytest.mark.parametrize("name", ["a", "A1", "penguins", "a-b_c.d", "9lives", "a" * 100])
def test_names_that_can_be_stored(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a/b", "../a", "a..b", "..", ".", ".a", "-a", "_a", "a b", "a" * 101, "päng", "模型", "a\\b", "a\n", "a\0b",
     "a:b", "a@b", "~", "C:", "a*", None, 7],
)  # fmt: skip
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidName) as caught:
        check_name(name)
    suggested = caught.value.hint.removeprefix("Try '").removesuffix("'.")
    assert check_name(suggested) == suggested


@pytest.mark.parametrize(
    "ref", ["m:", "m:x", "m:-1", "m:1.0", "m:²", "m@", "m@..", "m@a/b", "m:1@", "m:1@a/b", "../m:1"]
)
def test_references_that_are_refused(ref: str) -> None:
    with pytest.raises(InvalidName):
        split_ref(ref)


def test_references() -> None:
    assert split_ref("m") == ("m", None, None)
    assert split_ref("m:12") == ("m", 12, None)
    assert split_ref("m@best") == ("m", None, "best")


def test_a_name_is_its_newest_version(kept: Store) -> None:
    assert list(kept.list()) == []
    assert [put(kept, "m", "a"), put(kept, "m", "b"), put(kept, "other", "c")] == [1, 2, 1]
    assert kept.resolve("m") == ("m", 2) and kept.resolve("m:1") == ("m", 1)
    put(kept, "m", "d")
    assert kept.resolve("m") == ("m", 3)
    assert [info.ref for info in kept.list()] == ["m:3", "other:1"]
    assert [info.architecture for info in kept.versions("m")] == ["a", "b", "d"]
    assert [marks(kept, "m", version) for version in (1, 2, 3)] == [{"a"}, {"b"}, {"d"}]
    assert kept.get("m:2").lineage == {"seed": "0"}


def test_an_alias_names_one_version(kept: Store) -> None:
    put(kept, "m")
    put(kept, "m")
    kept.alias("m:1", "production")
    kept.alias("m", "candidate")
    assert kept.resolve("m@production") == ("m", 1) and kept.get("m:1").aliases == ("production",)
    kept.alias("m@candidate", "production")
    assert kept.resolve("m@production") == ("m", 2) and kept.get("m").aliases == ("candidate", "production")
    with pytest.raises(InvalidName):
        kept.alias("m", "a/b")


@pytest.mark.parametrize(
    ("ref", "message", "hint"),
    [
        ("pengiuns", "There is no model 'pengiuns'.", "Did you mean 'penguins'?"),
        ("penguins:3", "The model 'penguins' has no version 3.", "There is: penguins:1."),
        ("penguins:0", "The model 'penguins' has no version 0.", "There is: penguins:1."),
        (
            "penguins@prod",
            "The model 'penguins' has no alias 'prod', and penguins:1 has no export of that name.",
            "penguins:1",
        ),
    ],
)
def test_a_miss_says_what_there_is(kept: Store, ref: str, message: str, hint: str) -> None:
    with pytest.raises(ModelNotFound, match="%train"):
        kept.resolve(ref.partition(":")[0].partition("@")[0])
    put(kept, "penguins")
    for ask in (kept.resolve, kept.get, kept.delete):
        with pytest.raises(ModelNotFound) as caught:
            ask(ref)
        assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_number_is_never_given_twice(kept: Store) -> None:
    for mark in "abc":
        put(kept, "m", mark)
    kept.delete("m:3")
    assert kept.resolve("m") == ("m", 2)
    assert put(kept, "m", "d") == 4
    kept.delete("m")
    with pytest.raises(ModelNotFound):
        kept.get("m")
    assert list(kept.list()) == []
    assert put(kept, "m", "e") == 5
    assert marks(kept, "m", 5) == {"e"} and [info.version for info in kept.versions("m")] == [5]


def test_what_is_removed_takes_its_aliases_along(kept: Store) -> None:
    put(kept, "m")
    put(kept, "m")
    kept.alias("m:1", "old")
    kept.alias("m:2", "new")
    kept.delete("m@old")
    with pytest.raises(ModelNotFound, match="no alias 'old'"):
        kept.get("m@old")
    assert kept.get("m@new").version == 2
    kept.delete("m")
    put(kept, "m")
    assert kept.get("m").aliases == ()


def test_an_export_added_later_is_seen_and_replaced(kept: Store, tmp_path: Path) -> None:
    put(kept, "m")
    assert kept.get("m").exports == ()
    for mark in ("first", "second"):
        staged = kept.work / f"staged-{mark}"
        staged.mkdir(parents=True)
        (staged / "model.onnx").write_text(mark)
        kept.storage.add("m", 1, "exports/onnx", staged)
        assert (kept.folder("m", 1) / "exports" / "onnx" / "model.onnx").read_text() == mark
    assert kept.get("m").exports == ("onnx",)


def test_an_export_that_is_added_where_there_is_none_leaves_the_first(kept: Store, tmp_path: Path) -> None:
    put(kept, "m")
    for mark in ("first", "second"):
        staged = kept.work / f"staged-{mark}"
        staged.mkdir(parents=True)
        for file in ("model.onnx", "artifact.json"):
            (staged / file).write_text(mark)
        kept.storage.add("m", 1, "exports/onnx", staged, replace=False)
    folder = kept.folder("m", 1) / "exports" / "onnx"
    assert {file.name: file.read_text() for file in folder.iterdir()} == {
        "model.onnx": "first",
        "artifact.json": "first",
    }


def test_a_bucket_is_read_through_a_copy_that_may_come_late(
    kept: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(kept, "m", "a")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    other = Store(kept.place)
    assert marks(other, "m", 1) == {"a"} and other.get("m").exports == ()
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "model.onnx").write_text("x")
    kept.storage.add("m", 1, "exports/onnx", staged)
    if "://" in kept.place:
        assert other.get("m").exports == ()  # without its report it is still on its way
    staged.mkdir(exist_ok=True)
    (staged / "model.onnx").write_text("x")
    (staged / "artifact.json").write_text("{}")
    kept.storage.add("m", 1, "exports/onnx", staged)
    assert other.get("m").exports == ("onnx",)
    put(kept, "m", "b")
    assert other.resolve("m") == ("m", 2)
    kept.delete("m:1")
    with pytest.raises(ModelNotFound):
        other.get("m:1")


@pytest.mark.parametrize("damage", ["", "{", '{"info": {}}', '{"info": 3}', None])
def test_a_broken_manifest_hides_no_other_model(kept: Store, damage: str | None) -> None:
    for name in ("a", "b", "c"):
        put(kept, name)
    put(kept, "b")
    manifest = kept.folder("b", 2) / "manifest.json"
    manifest.unlink() if damage is None else manifest.write_text(damage)
    assert [(info.ref, info.task) for info in kept.list()] == [
        ("a:1", "regression"), ("b:2", "cannot be read"), ("c:1", "regression"),
    ]  # fmt: skip
    assert [info.task for info in kept.versions("b")] == ["regression", "cannot be read"]
    with pytest.raises(StoreError, match=r"b:2 cannot be read: manifest\.json") as caught:
        kept.get("b")
    assert caught.value.hint == "%maas rm b:2 removes it."
    kept.delete("b:2")
    assert kept.get("b").version == 1


def test_foreign_files_are_passed_over(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    put(store, "m")
    (tmp_path / "models" / "README").write_text("hello")
    (tmp_path / "models" / "m" / ".DS_Store").write_text("")
    (tmp_path / "models" / "empty").mkdir()
    assert [info.ref for info in store.list()] == ["m:1"]
    assert put(store, "m") == 2


def test_an_address_nobody_knows_is_a_short_error() -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Store("nosuch://bucket")


def test_a_store_given_as_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(str(tmp_path / "file"))
    assert list(store.list()) == []
    with pytest.raises(StoreError, match="cannot be written"):
        put(store, "m")


def test_staging_by_hand_publishes_the_very_files(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    staged = stage(tmp_path / "staged", "m", "x")
    names = sorted(path.name for path in staged.iterdir())
    store.storage.publish("m", staged)
    assert sorted(path.name for path in store.folder("m", 1).iterdir()) == names and not staged.exists()
