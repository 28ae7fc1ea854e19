"""Pictures a CPU second is trained on from a folder of JPEG files, beside a plain loop over a DataLoader.

The peer's dataset is what ``ImageFolder`` is, with Pillow and numpy: a file is opened, resized and
standardised, each time it is asked for. Both train the same network with the same optimizer for as many epochs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import cpu, in_turns, ratios, table

FILES, CLASSES, WIDTH, HEIGHT, SEEN = 300, 3, 800, 600, (64, 48)
BATCH, ROUNDS, LONG = 32, 3, 5
RATE = 2e-3


def main() -> None:
    """Print one table: ratios to the plain loop of as many epochs, and accuracy on files that were held back."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home:
        folder, other = Path(home) / "train", Path(home) / "test"
        write(folder, FILES, seed=0)
        write(other, FILES // 3, seed=1)
        shown = []
        for epochs in (1, LONG):
            for name, fit in (("as they are", ours), ("flipped and cut", ours_augmented)):
                plain = plain_augmented if fit is ours_augmented else plain_loop
                scores: dict[str, list[float]] = {"plain": [], "ours": []}

                def scored(who: str, way: Any, epochs: int = epochs, scores: Any = scores) -> Callable[[], float]:
                    def run() -> float:
                        held: list[Callable[[], float]] = []
                        spent = cpu(lambda: held.append(way(folder, other, epochs)))
                        scores[who].append(held[0]())
                        return spent

                    return run

                found = in_turns({"plain": scored("plain", plain), "ours": scored("ours", fit)}, ROUNDS)
                ratio = 1 / ratios(found, "plain")["ours"]
                each = [f"{sum(scores[who]) / ROUNDS:.3f}" for who in ("plain", "ours")]
                shown.append([f"{epochs} epoch{'s' * (epochs > 1)}, {name}", f"{ratio:.2f} ×", *each])
    title = f"{FILES} JPEG files of {WIDTH} × {HEIGHT}, seen as {SEEN[0]} × {SEEN[1]}, batches of {BATCH}, one thread"
    print(table(title, ["", "pictures a CPU second, to plain", "accuracy, plain", "ours"], shown))


def write(folder: Path, files: int, seed: int) -> None:
    """Photograph-like files: smooth noise with a bright shape, whose place tells the class."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(seed)
    for number in range(files):
        label = number % CLASSES
        small = rng.integers(40, 200, (9, 12, 3), dtype=np.uint8)
        picture = np.asarray(Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(np.int16)
        top, left = rng.integers(20, HEIGHT - 260), rng.integers(20, WIDTH - 260)
        picture[top : top + (110, 230, 160)[label], left : left + (230, 110, 160)[label]] += 70
        picture += rng.normal(0, 6, picture.shape).astype(np.int16)
        place = folder / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(place / f"{number}.jpg", quality=90)


def ours(folder: Path, other: Path, epochs: int, augment: str = "") -> Callable[[], float]:
    """``maas.train`` on the folder, without held-out rows; everything around the loop is in it."""
    import maas_magics as maas

    os.environ["MAAS_STORE"] = tempfile.mkdtemp()
    asked: dict[str, Any] = {"epochs": epochs, "validation": 0.0, "batch_size": BATCH, "lr": RATE}
    maas.train("shape", str(folder), "label", augment=augment, **asked)
    return lambda: maas.evaluate("shape", str(other)).values["accuracy"]


def ours_augmented(folder: Path, other: Path, epochs: int) -> Callable[[], float]:
    """The same with rows that are varied."""
    return ours(folder, other, epochs, "flip,crop")


def plain_loop(folder: Path, other: Path, epochs: int, augmented: bool = False) -> Callable[[], float]:
    """A loop over a DataLoader without workers."""
    import numpy as np
    import torch
    from PIL import Image
    from torch import nn
    from torch.utils.data import DataLoader, Dataset

    from maas_magics.core.networks.encoders import ConvolutionalEncoder

    class Folder(Dataset[Any]):
        def __init__(self, root: Path, varied: bool) -> None:
            self.files = sorted(root.rglob("*.jpg"))
            self.varied = varied

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            picture = Image.open(self.files[index]).convert("RGB")
            box: Any = None
            if self.varied:
                share = np.sqrt(np.random.uniform(0.7, 1.0))
                left, top = np.random.uniform(0, 1 - share, 2) * picture.size
                box = (left, top, left + share * picture.width, top + share * picture.height)
            picture = picture.resize(SEEN, Image.Resampling.BILINEAR, box=box)
            if self.varied and np.random.random() < 0.5:
                picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            x = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float().div(255)
            return (x - 0.5) / 0.25, int(self.files[index].parent.name[-1])

    torch.manual_seed(0)
    np.random.seed(0)
    encoder = ConvolutionalEncoder(3)
    net = nn.Sequential(encoder, nn.Dropout(0.2), nn.Linear(encoder.size, 128), nn.ReLU(), nn.Linear(128, CLASSES))
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.01)
    loader = DataLoader(Folder(folder, augmented), BATCH, shuffle=True)
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
            for x, y in DataLoader(Folder(other, False), 100):
                right += int((net(x).argmax(1) == y).sum())
        return right / (FILES // 3)

    return score


def plain_augmented(folder: Path, other: Path, epochs: int) -> Callable[[], float]:
    """The same with rows that are varied."""
    return plain_loop(folder, other, epochs, augmented=True)
