"""Networks that write down what they hear: Whisper, and those distilled from it."""

from __future__ import annotations

import json
from typing import Any

from maas_magics.api.errors import ModelError
from maas_magics.core.data.labels import TEXT
from maas_magics.core.features.modalities.speech import SpeechFeature
from maas_magics.core.importers import Imported, importers
from maas_magics.core.networks.hub import HubFolder
from maas_magics.core.networks.kinds import asked_of
from maas_magics.core.tasks.transcription import Times, Transcription, tokens_of

NOTHING = "<|notimestamps|>"
"""The token before those that say when something is said."""


class Transcripts:
    """``WhisperForConditionalGeneration``: a text for each recording.

    Parameters
    ----------
    timed : bool
        Whether the answer has seconds: of words where the network has heads that align them, else of segments.
    """

    def __init__(self, timed: bool = False) -> None:
        self.timed = timed

    def accepts(self, folder: HubFolder) -> bool:
        """Whether a folder holds such a network; only where it is requested, one with seconds."""
        return not self.timed and "WhisperForConditionalGeneration" in (folder.config.get("architectures") or ())

    def read(self, folder: HubFolder, column: str) -> Imported:
        """The recording, and the text that is written of it."""
        if folder.config.get("model_type") != "whisper":
            what = ", ".join(map(str, folder.config.get("architectures") or ["no network that is known"]))
            raise ModelError(f"{folder.path} holds {what}, which does not write down speech.", "Whisper does.")
        known = asked_of(folder, "audio")
        vocabulary, added = _tokens(folder)
        generation = folder.read("generation_config.json")
        silent = generation.get("no_timestamps_token_id", vocabulary.get(NOTHING))
        times: Times = ""
        if self.timed:
            times = "words" if generation.get("alignment_heads") else "segments"
        if silent is None and times == "segments":
            raise ModelError(
                f"{folder.path} has no tokens for seconds, and no alignment_heads.", "--kind transcription"
            )
        rate = int(known["rate"])
        window = 320 * int(folder.config.get("max_source_positions", 1_500))
        feature = SpeechFeature(column or "sound", rate=rate, window=window, bands=int(known["bands"]))
        first = len(vocabulary) + len(added) + 1 if silent is None else int(silent) + 1
        task = Transcription(("text",), kind=TEXT, tokens=tokens_of(vocabulary, added), first_time=first, times=times)
        return Imported(
            "hf", feature, task, {"kind": "audio", "generation": json.dumps(generation, sort_keys=True), "times": times}
        )


def _tokens(folder: HubFolder) -> tuple[dict[str, int], list[int]]:
    """Ids of the tokens of a byte-level tokenizer, and of those that were added to it."""
    known: dict[str, Any] = json.loads(folder.tokenizer)
    vocabulary = known.get("model", {}).get("vocab")
    if not isinstance(vocabulary, dict) or (known.get("decoder") or {}).get("type") != "ByteLevel":
        raise ModelError(f"{folder.path} has a tokenizer that is not byte-level BPE.", "One as Whisper has it.")
    added = {str(one["content"]): int(one["id"]) for one in known.get("added_tokens", ())}
    return {**vocabulary, **added}, list(added.values())


importers.register("transcription")(Transcripts())
importers.register("timed-transcription")(Transcripts(timed=True))
