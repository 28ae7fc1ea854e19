"""Encrypted files: what was written is read again, and whatever was changed, moved or cut is refused."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import pytest

from maas_magics.api.errors import MissingDependency, OptionError, SealError
from maas_magics.core.seal import chunks, envelope, files, keys

KEY = bytes(range(32))
SMALL = 64
"""Bytes of a chunk in most of these tests."""


def sealed(data: bytes, name: str = "f", key: bytes = KEY, chunk: int = SMALL) -> bytes:
    stream = io.BytesIO()
    chunks.write(stream, [data], key, name, chunk)
    return stream.getvalue()


def opened(data: bytes, name: str = "f", key: bytes = KEY) -> bytes:
    return chunks.read(io.BytesIO(data), len(data), key, name)


def parts(data: bytes) -> tuple[bytes, list[bytes]]:
    """Header and chunks of a file."""
    begin = 12 + int.from_bytes(data[8:12], "big")
    step = SMALL + chunks.TAG
    return data[:begin], [data[at : at + step] for at in range(begin, len(data), step)]


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> keys.Key:
    made = keys.Key(os.urandom(32))
    monkeypatch.setenv("MAAS_KEY", base64.b64encode(made.secret).decode())
    return made


@pytest.mark.parametrize("size", [0, 1, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL, 1000])
def test_what_is_written_is_read_again(size: int) -> None:
    data = os.urandom(size)
    assert opened(sealed(data)) == data
    stream = io.BytesIO()
    pieces = [data[at : at + 7] for at in range(0, size, 7)]
    chunks.write(stream, pieces, KEY, "f", SMALL)
    assert opened(stream.getvalue()) == data
    assert sealed(data) != sealed(data)  # a salt of its own
    if size > 20:
        assert data[:20] not in sealed(data)


def test_any_changed_byte_is_refused() -> None:
    data = sealed(os.urandom(2 * SMALL))
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(chunks.Broken):
            opened(bytes(changed))


def test_chunks_cannot_be_moved_repeated_left_out_or_cut_off() -> None:
    head, pieces = parts(sealed(os.urandom(3 * SMALL)))
    a, b, c = pieces
    assert opened(head + a + b + c)
    for wrong in ([b, a, c], [a, a, b, c], [a, c], [a, b], [a], [], [a, b, c, c], [a, b, c[:-1]], [a, b, c + b"x"]):
        with pytest.raises(chunks.Broken):
            opened(head + b"".join(wrong))


def test_a_file_under_another_name_or_of_another_key_is_refused() -> None:
    data = sealed(b"weights")
    for name, key in (("g", KEY), ("f", bytes(32))):
        with pytest.raises(chunks.Broken):
            opened(data, name, key)


def test_chunks_of_two_files_cannot_be_mixed() -> None:
    (head, ours), (_, theirs) = parts(sealed(bytes(3 * SMALL))), parts(sealed(bytes(3 * SMALL)))
    with pytest.raises(chunks.Broken):
        opened(head + ours[0] + theirs[1] + ours[2])


def test_a_folder_with_an_envelope_is_encrypted_and_another_is_not(key: keys.Key, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    files.put(tmp_path / "plain/f", b"weights")
    (tmp_path / "sealed").mkdir()
    envelope.begin(tmp_path / "sealed")
    files.put(tmp_path / "sealed" / "f", b"weights")
    assert (tmp_path / "plain/f").read_bytes() == b"weights"
    assert b"weights" not in (tmp_path / "sealed/f").read_bytes()
    assert files.contents(tmp_path / "plain/f") == files.contents(tmp_path / "sealed/f") == b"weights"


def test_files_of_two_folders_cannot_be_swapped(key: keys.Key, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        envelope.begin(tmp_path / name)
        files.put(tmp_path / name / "f", name.encode())
    (tmp_path / "a/f").write_bytes((tmp_path / "b/f").read_bytes())
    with pytest.raises(SealError, match="a cannot be used: its file f was changed or cut"):
        files.contents(tmp_path / "a/f")


def test_without_its_key_nothing_opens(key: keys.Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    envelope.begin(tmp_path)
    files.put(tmp_path / "f", b"weights")
    monkeypatch.setenv("MAAS_KEY", base64.b64encode(bytes(32)).decode())
    with pytest.raises(SealError, match=f"with the key {key.id}; the one here is") as wrong:
        files.contents(tmp_path / "f")
    monkeypatch.delenv("MAAS_KEY")
    with pytest.raises(SealError, match="no key is known here") as missing:
        files.contents(tmp_path / "f")
    assert len(str(wrong.value).splitlines()) == len(str(missing.value).splitlines()) == 2
    with pytest.raises(SealError, match="no key to encrypt with"):
        envelope.begin(tmp_path)


def test_a_changed_envelope_is_refused(key: keys.Key, tmp_path: Path) -> None:
    envelope.begin(tmp_path)
    files.put(tmp_path / "f", b"weights")
    there = (tmp_path / "seal.json").read_bytes()
    (tmp_path / "seal.json").write_bytes(there.replace(b'"key": "', b'"key": "AAAA'))
    with pytest.raises(SealError, match="was changed"):
        files.contents(tmp_path / "f")
    (tmp_path / "seal.json").write_bytes(there.replace(b"A256KW", b"none"))
    with pytest.raises(SealError, match="cannot be read"):
        files.contents(tmp_path / "f")
    (tmp_path / "seal.json").unlink()
    with pytest.raises(SealError, match=r"no seal\.json stands beside it"):
        files.contents(tmp_path / "f")


def test_a_key_comes_from_the_variable_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAAS_KEY", raising=False)
    assert keys.known_keys() == []
    first, second = keys.write_key(tmp_path / "1"), keys.write_key(tmp_path / "2")
    assert (tmp_path / "1").stat().st_mode & 0o077 == 0 or os.name != "posix"
    both = (tmp_path / "2").read_text() + (tmp_path / "1").read_text()
    (tmp_path / "both").write_text(both)
    monkeypatch.setenv("MAAS_KEY", f"file:{tmp_path}/both")
    assert keys.known_keys() == [second, first]
    monkeypatch.setenv("MAAS_KEY", both.strip().replace("\n", ","))
    assert keys.known_keys() == [second, first]
    monkeypatch.setenv("MAAS_KEY", f"file:{tmp_path}/2, file:{tmp_path}/1")
    assert keys.known_keys() == [second, first]
    (tmp_path / "1,2").write_text(both)
    monkeypatch.setenv("MAAS_KEY", f"file:{tmp_path}/1,2")
    assert keys.known_keys() == [second, first]
    assert repr(first) == "Key()"
    with pytest.raises(OptionError, match="is there already"):
        keys.write_key(tmp_path / "1")


@pytest.mark.parametrize("said", ["secret", "file:/no/such/file", "c2hvcnQ="])
def test_what_is_no_key_is_told(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAAS_KEY", said)
    with pytest.raises(SealError) as told:
        keys.known_keys()
    assert len(str(told.value).splitlines()) == 2
    assert "secret" not in str(told.value)


def test_without_the_library_its_install_line_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cryptography" else find(name))
    with pytest.raises(MissingDependency, match="Encryption needs cryptography") as told:
        envelope.begin(tmp_path)
    assert told.value.hint == '%pip install "maas-magics[protect]"'
