"""Sounds a CPU second is trained on from a folder of WAV files, beside a plain loop over a DataLoader with librosa.

Both hear one channel at 16 kHz as 64 bands of the mel scale, and train the same network with the same optimizer.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import Measured, missing, quietly, ratios, table

FILES, CLASSES, RATE, HEARD, SECONDS, BANDS = 300, 3, 44_100, 16_000, 1.5, 64
BATCH, ROUNDS, LONG = 32, 3, 5
LR = 2e-3


def main() -> None:
    """Print one table: ratios to the plain loop of as many epochs, and accuracy on files that were held back."""
    absent = missing("soundfile", "librosa")
    if absent:
        print(f"\nsounds are left out, for this is not installed: {', '.join(absent)}")
        return
    import torch

    torch.set_num_threads(1)
    shown = []
    with tempfile.TemporaryDirectory() as home:
        folder, other = Path(home) / "train", Path(home) / "test"
        write(folder, FILES, seed=0)
        write(other, FILES // 3, seed=1)
        for epochs in (1, LONG):
            wholes: Measured = {"plain": [], "ours": []}
            scores: Measured = {"plain": [], "ours": []}
            for lap in range(ROUNDS + 1):
                for name, way in (("plain", plain_loop), ("ours", ours)):
                    begun = time.process_time()
                    score = quietly(lambda way=way, epochs=epochs: way(folder, other, epochs))
                    spent = time.process_time() - begun
                    if lap:  # the first lap imports and warms
                        wholes[name].append(spent)
                        scores[name].append(score())
            ratio = 1 / ratios(wholes, "plain")["ours"]
            each = [f"{sum(scores[name]) / ROUNDS:.3f}" for name in scores]
            shown.append([f"{epochs} epoch{'s' * (epochs > 1)}", f"{ratio:.2f} ×", *each])
            print("·", *shown[-1], flush=True)
    title = f"{FILES} WAV files of {SECONDS} s in stereo at {RATE:,} Hz, batches of {BATCH}, one thread"
    head = ["", "sounds a CPU second, to librosa", "accuracy, plain", "ours"]
    table(title, head, shown, f"Medians of {ROUNDS} rounds in turns, after one that is not counted.")


def write(folder: Path, files: int, seed: int) -> None:
    """Tones in noise that rise, fall or stay."""
    import numpy as np
    import soundfile

    rng = np.random.default_rng(seed)
    at = np.arange(int(SECONDS * RATE)) / RATE
    for number in range(files):
        label = number % CLASSES
        pitch = rng.uniform(300, 1500) * 2 ** ((label - 1) * at / SECONDS)
        wave = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) + rng.normal(0, 1, at.shape)
        place = folder / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / f"{number}.wav", 0.1 * np.stack([wave, wave], axis=1), RATE)


def ours(folder: Path, other: Path, epochs: int) -> Callable[[], float]:
    """``maas.train`` on the folder, without held-out rows; everything around the loop is in it."""
    import maas_magics as maas

    os.environ |= {"MAAS_STORE": tempfile.mkdtemp(), "MAAS_UI": "off"}
    maas.train("tone", str(folder), "label", epochs=epochs, validation=0.0, batch_size=BATCH, lr=LR)
    return lambda: quietly(lambda: maas.evaluate("tone", str(other))).values["accuracy"]


def plain_loop(folder: Path, other: Path, epochs: int) -> Callable[[], float]:
    """A loop over a DataLoader without workers."""
    import librosa
    import numpy as np
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Dataset

    from maas_magics.core.features.port import Port
    from maas_magics.core.networks.encoders import SoundEncoder

    class Folder(Dataset[Any]):
        def __init__(self, root: Path) -> None:
            self.files = sorted(root.rglob("*.wav"))

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            wave, _ = librosa.load(self.files[index], sr=HEARD, mono=True)
            power = librosa.feature.melspectrogram(
                y=wave, sr=HEARD, n_fft=400, hop_length=160, n_mels=BANDS, center=False
            )
            mel = np.log(np.maximum(power, 1e-6))
            mel = (mel - mel.mean()) / (mel.std() + 1e-3)
            return torch.from_numpy(mel.astype(np.float32)), int(self.files[index].parent.name[-1])

    torch.manual_seed(0)
    data = Folder(folder)
    encoder = SoundEncoder(Port("audio", tuple(data[0][0].shape), banded=True))
    net = nn.Sequential(encoder, nn.Dropout(0.2), nn.Linear(encoder.size, 128), nn.ReLU(), nn.Linear(128, CLASSES))
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=0.01)
    loader = DataLoader(data, BATCH, shuffle=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, epochs * len(loader))
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
            schedule.step()

    def score() -> float:
        right = 0
        net.eval()
        with torch.inference_mode():
            for x, y in DataLoader(Folder(other), 100):
                right += int((net(x).argmax(1) == y).sum())
        return right / len(list(other.rglob("*.wav")))

    return score
