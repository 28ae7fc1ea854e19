"""Models that write texts, token by token: many answers at once, each with its place in a shared cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maas_magics.api.errors import ModelError, OptionError
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.runtimes import RUNTIMES
from maas_magics.core.runtimes.text.onnx_engine import OnnxEngine, decodes
from maas_magics.core.runtimes.text.room import LENGTH, MEMORY, Room, room_for
from maas_magics.core.runtimes.text.session import TextSession
from maas_magics.core.store.manifest import PREPROCESS, check_files, read_processor


class TextRuntime:
    """Opens versions of the task language.

    Attributes
    ----------
    kv_memory : int or None
        Bytes that the keys and values of all texts may take together; the usual bound when None.
    """

    kv_memory: int | None = None

    @property
    def memory(self) -> int:
        """Bytes that the keys and values of all texts may take, those of before among them."""
        return MEMORY if self.kv_memory is None else self.kv_memory

    def open(self, folder: Path, shared: bool) -> TextSession:
        """Open a version's files: its export to ONNX where there is one, else its weights in torch.

        Parameters
        ----------
        folder : Path
            The version's folder.
        shared : bool
            Whether the processor is shared with a server's other work.

        Raises
        ------
        ModelError
            If it holds no text to continue, or the memory for keys and values holds no text.
        """
        return self.open_variant(folder, shared, "")

    def open_variant(self, folder: Path, shared: bool, variant: str) -> TextSession:
        """The same of an export.

        Parameters
        ----------
        folder : Path
            The version's folder.
        shared : bool
            Whether the processor is shared with a server's other work.
        variant : str
            Name of the export that answers; the plain one, if it is there, where it is empty.

        Raises
        ------
        OptionError
            If no engine here answers with it.
        """
        check_files(folder, PREPROCESS)
        ref = f"{folder.parent.name}:{folder.name}"
        feature = next((one for one in read_processor(folder).features if isinstance(one, ProseFeature)), None)
        if feature is None:
            raise ModelError(f"{ref} reads no text to continue.", "")
        export = folder / "exports" / (variant or "onnx")
        file = export / "model.onnx"
        if file.is_file() and (variant or decodes()):
            check_files(folder, f"exports/{export.name}")
            return self._by_onnx(file, ref, feature, shared)
        if variant:
            raise OptionError(f"{ref}@{variant} is a file that no engine here answers with.", f"{ref} answers.")
        return self._by_torch(folder, ref, feature)

    def _by_onnx(self, file: Path, ref: str, feature: ProseFeature, shared: bool) -> TextSession:
        made = OnnxEngine(file, shared)
        longest = min(made.positions, max(feature.block, LENGTH))
        room = room_for(ref, made.token_bytes, longest, self.kv_memory)
        made.allocate(*room, self._sparing(room, made.token_bytes))
        return TextSession(feature, made, longest, self.memory)

    def _by_torch(self, folder: Path, ref: str, feature: ProseFeature) -> TextSession:
        from maas_magics.core.model import load_model
        from maas_magics.core.runtimes.text.torch_engine import TorchEngine

        decoder: Any = getattr(load_model(folder).net, "decoder", None)
        if decoder is None:
            raise ModelError(f"{ref} holds no network that writes texts.", "")
        longest = min(decoder.config.positions, max(feature.block, LENGTH))
        token = TorchEngine.bytes_of_token(decoder)
        room = room_for(ref, token, longest, self.kv_memory)
        return TextSession(feature, TorchEngine(decoder, *room, self._sparing(room, token)), longest, self.memory)

    def _sparing(self, room: Room, token: int) -> bool:
        """Whether full slots would leave less than a quarter of the memory for texts of before."""
        return 4 * room.slots * room.length * token > 3 * self.memory


RUNTIMES.register("text")(TextRuntime)
