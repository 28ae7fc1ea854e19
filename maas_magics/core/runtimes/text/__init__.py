"""Models that write texts, token by token: many answers at once, each with its place in a shared cache."""

from __future__ import annotations

from pathlib import Path

from maas_magics.api.errors import ModelError
from maas_magics.core.features.modalities.prose import ProseFeature
from maas_magics.core.model import load_model
from maas_magics.core.runtimes import RUNTIMES
from maas_magics.core.runtimes.text.session import TextSession
from maas_magics.core.runtimes.text.torch_engine import TorchEngine

SLOTS = 8
"""Answers that are written at a time."""

CACHE = 2**29
"""Bytes of keys and values, at most."""


class TextRuntime:
    """Opens versions of the task language."""

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
            If it holds no text to continue.
        """
        model = load_model(folder)
        feature = next((one for one in model.processor.features if isinstance(one, ProseFeature)), None)
        decoder = getattr(model.net, "decoder", None)
        if feature is None or decoder is None:
            raise ModelError(f"{folder.parent.name}:{folder.name} reads no text to continue.", "")
        length = min(decoder.config.positions, max(feature.block, 2_048))
        slots = max(1, min(SLOTS, CACHE // TorchEngine.slot_bytes(decoder.config, length)))
        return TextSession(feature, TorchEngine(decoder, slots, length))


RUNTIMES.register("text")(TextRuntime)
