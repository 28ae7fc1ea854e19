"""Models that write texts, token by token: many answers at once, each with its place in a shared cache."""

from __future__ import annotations

from pathlib import Path

from maas_magics.api.errors import ModelError
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.model import load_model
from maas_magics.core.runtimes import RUNTIMES
from maas_magics.core.runtimes.text.room import LENGTH, room_for
from maas_magics.core.runtimes.text.session import TextSession
from maas_magics.core.runtimes.text.torch_engine import TorchEngine


class TextRuntime:
    """Opens versions of the task language.

    Attributes
    ----------
    kv_memory : int or None
        Bytes that the keys and values of all texts may take together; the usual bound when None.
    """

    kv_memory: int | None = None

    def open(self, folder: Path, shared: bool) -> TextSession:
        """Open a version's files.

        Parameters
        ----------
        folder : Path
            The version's folder.
        shared : bool
            Whether the processor is shared with a server's other work; not used.

        Raises
        ------
        ModelError
            If it holds no text to continue, or the memory for keys and values holds no text.
        """
        model = load_model(folder)
        feature = next((one for one in model.processor.features if isinstance(one, ProseFeature)), None)
        decoder = getattr(model.net, "decoder", None)
        ref = f"{folder.parent.name}:{folder.name}"
        if feature is None or decoder is None:
            raise ModelError(f"{ref} reads no text to continue.", "")
        longest = min(decoder.config.positions, max(feature.block, LENGTH))
        room = room_for(ref, TorchEngine.token_bytes(decoder), longest, self.kv_memory)
        return TextSession(feature, TorchEngine(decoder, *room))


RUNTIMES.register("text")(TextRuntime)
