"""Sounds that a network gives a label, several labels, or a number."""

from __future__ import annotations

from maas_magics.api.errors import ModelError
from maas_magics.core.features.heard import HOP, WINDOW
from maas_magics.core.features.modalities.audio import AudioFeature
from maas_magics.core.importers import Imported, importers
from maas_magics.core.importers.classification import task_of
from maas_magics.core.importers.labels import check_head
from maas_magics.core.networks.hub import HubFolder
from maas_magics.core.networks.kinds import asked_of

ENDINGS = ("ForSequenceClassification", "ForAudioClassification")
"""Of networks over sounds with a head."""

OF_SAMPLES = ("wav2vec2", "hubert", "wavlm", "unispeech-sat")
"""Kinds of networks over samples, which take no notice of what is behind a sound."""

KALDI = {"feature_size": 1, "sampling_rate": 16_000, "num_mel_bins": 128, "mean": -4.2677393, "std": 4.5689974}
"""What the feature extractor of the Audio Spectrogram Transformer is, where it does not say."""


class AudioClassification:
    """wav2vec 2.0, HuBERT, WavLM, Whisper and the Audio Spectrogram Transformer with a head."""

    def accepts(self, folder: HubFolder) -> bool:
        """Whether a folder holds such a network, which hears sounds."""
        named = [str(name) for name in folder.config.get("architectures") or ()]
        known = folder.read("preprocessor_config.json")
        return "sampling_rate" in known and any(name.endswith(ENDINGS) for name in named)

    def read(self, folder: HubFolder, column: str) -> Imported:
        """The sound, and what it gets."""
        check_head(folder, ENDINGS, "audio-classification")
        made = _fbank if folder.config.get("model_type") == "audio-spectrogram-transformer" else _heard
        feature = made(folder, column or "sound")
        note = f"It hears the first {feature.samples / feature.rate:.3g} s of a sound."
        return Imported("hf", feature, task_of(folder), {"own_head": True, "kind": "audio"}, note)


def _heard(folder: HubFolder, column: str) -> AudioFeature:
    kind = folder.config.get("model_type")
    if kind not in ("whisper", *OF_SAMPLES):
        raise ModelError(
            f"{folder.path} holds a network {kind!r}, of which it is not known how it hears sounds of several lengths.",
            f"whisper, audio-spectrogram-transformer, {', '.join(OF_SAMPLES)}",
        )
    asked = asked_of(folder, "audio")
    samples = round(asked.pop("longest") * asked["rate"])
    if folder.config.get("model_type") == "whisper":
        samples = 2 * HOP * int(folder.config.get("max_source_positions", 1_500))
    return AudioFeature(column, samples=samples, **asked)


def _fbank(folder: HubFolder, column: str) -> AudioFeature:
    known = {**KALDI, **folder.read("preprocessor_config.json")}
    if known["sampling_rate"] != KALDI["sampling_rate"]:
        raise ModelError(
            f"{folder.path} hears {known['sampling_rate']:,} samples a second.",
            f"{KALDI['sampling_rate']:,} are known.",
        )
    frames = int(known.get("max_length", folder.config.get("max_length", 1_024)))
    plain = known.get("do_normalize") is False
    return AudioFeature(
        column,
        rate=int(known["sampling_rate"]),
        samples=WINDOW + (frames - 1) * HOP,
        bands=int(known["num_mel_bins"]),
        form="fbank",
        start=True,
        level=(0.0, 1.0) if plain else (float(known["mean"]), 2 * float(known["std"])),
    )


importers.register("audio-classification")(AudioClassification())
