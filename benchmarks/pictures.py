"""Pictures a CPU second is trained on from a folder of JPEG files, beside a plain loop over a DataLoader.

The peer's dataset is what ``ImageFolder`` is, with Pillow and numpy: a file is opened, resized and
standardised, each time it is asked for. Both train the same network with the same optimizer for as many epochs, and
vary pictures alike: a part of each, stretched by a third at most as ``RandomResizedCrop`` does, and mirrored.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import Measured, quietly, ratios, table

FILES, CLASSES, SEEN = 300, 3, (64, 48)
SMALL, LARGE, FEW = (800, 600), (3000, 2000), 96
"""Width and height of pictures of a page and of a camera, and files of the latter."""

BATCH, ROUNDS, LONG = 32, 3, 5
RATE = 2e-3

Stepped = Callable[[], None]
"""Called behind the first step."""


def main() -> None:
    """Print one table: ratios to the plain loop of as many epochs, and accuracy on files that were held back."""
    import torch

    torch.set_num_threads(1)
    shown = []
    for sides, files, lengths in ((SMALL, FILES, (1, LONG)), (LARGE, FEW, (1,))):
        with tempfile.TemporaryDirectory() as home:
            folder, other = Path(home) / "train", Path(home) / "test"
            write(folder, files, sides, seed=0)
            write(other, 2 * files if sides == SMALL else files // 3, sides, seed=1)
            for epochs in lengths:
                for name, varied in (("as they are", False), ("flipped and cut", True))[: len(lengths)]:
                    title = f"{files} of {sides[0]} × {sides[1]}, {epochs} epoch{'s' * (epochs > 1)}, {name}"
                    shown.append([title, *_beside(folder, other, epochs, varied)])
                    print("·", *shown[-1], flush=True)
    title = f"JPEG files, seen as {SEEN[0]} × {SEEN[1]}, batches of {BATCH}, one thread"
    head = ["", "pictures a CPU second, to plain", "the first step, to plain", "accuracy, plain", "ours"]
    table(title, head, shown, f"Medians of {ROUNDS} rounds in turns, after one that is not counted.")


def _beside(folder: Path, other: Path, epochs: int, varied: bool) -> list[str]:
    """Ratios of whole calls and of first steps, and both accuracies: each lap has a seed of its own."""
    ways = {"plain": partial(plain_loop, varied=varied), "ours": partial(ours, varied=varied)}
    wholes: Measured = {name: [] for name in ways}
    firsts: Measured = {name: [] for name in ways}
    scores: Measured = {name: [] for name in ways}
    for lap in range(ROUNDS + 1):
        for name, way in ways.items():
            stepped: list[float] = []
            begun = time.process_time()
            score = quietly(
                lambda way=way, told=stepped, lap=lap: way(folder, other, epochs, lambda: told.append(_now()), lap)
            )
            spent = _now() - begun
            if lap:  # the first lap imports and warms
                wholes[name].append(spent)
                firsts[name].append(stepped[0] - begun)
                scores[name].append(score())
    each = [f"{1 / ratios(found, 'plain')['ours']:.2f} ×" for found in (wholes, firsts)]
    return [*each, *(f"{sum(scores[name]) / ROUNDS:.3f}" for name in ways)]


def _now() -> float:
    return time.process_time()


def write(folder: Path, files: int, sides: tuple[int, int], seed: int) -> None:
    """Photograph-like files: smooth noise with a bright shape, whose sides tell the class."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(seed)
    width, height = sides
    shapes = [(round(height * a), round(width * b)) for a, b in ((0.18, 0.29), (0.38, 0.14), (0.27, 0.2))]
    for number in range(files):
        label = number % CLASSES
        small = rng.integers(40, 200, (9, 12, 3), dtype=np.uint8)
        picture = np.asarray(Image.fromarray(small).resize(sides, Image.Resampling.BICUBIC)).astype(np.int16)
        tall, wide = shapes[label]
        top, left = rng.integers(0, height - tall), rng.integers(0, width - wide)
        picture[top : top + tall, left : left + wide] += 70
        picture += rng.normal(0, 6, picture.shape).astype(np.int16)
        place = folder / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(place / f"{number}.jpg", quality=90)


def ours(folder: Path, other: Path, epochs: int, stepped: Stepped, seed: int, varied: bool) -> Callable[[], float]:
    """``maas.train`` on the folder, without held-out rows; everything around the loop is in it."""
    import maas_magics as maas
    from maas_magics.api.events import Step

    os.environ |= {"MAAS_STORE": tempfile.mkdtemp(), "MAAS_UI": "off"}
    asked: dict[str, Any] = {"epochs": epochs, "validation": 0.0, "batch_size": BATCH, "lr": RATE, "seed": seed}

    def follow(event: Any) -> None:
        if isinstance(event, Step):
            stepped()

    maas.train("shape", str(folder), "label", augment="flip,crop" if varied else "", callbacks=[follow], **asked)
    return lambda: quietly(lambda: maas.evaluate("shape", str(other))).values["accuracy"]


def plain_loop(
    folder: Path, other: Path, epochs: int, stepped: Stepped, seed: int, varied: bool
) -> Callable[[], float]:
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
                share, stretch = np.sqrt(np.random.uniform(0.7, 1.0)), np.exp(np.random.uniform(-1, 1) * np.log(4 / 3))
                cut = np.minimum(share * np.array([stretch**0.5, stretch**-0.5]), 1.0)
                left, top = np.random.uniform(0, 1, 2) * (1 - cut) * picture.size
                box = (left, top, left + cut[0] * picture.width, top + cut[1] * picture.height)
            picture = picture.resize(SEEN, Image.Resampling.BILINEAR, box=box)
            if self.varied and np.random.random() < 0.5:
                picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            x = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float().div(255)
            return (x - 0.5) / 0.25, int(self.files[index].parent.name[-1])

    torch.manual_seed(seed)
    np.random.seed(seed)
    encoder = ConvolutionalEncoder(3)
    net = nn.Sequential(encoder, nn.Dropout(0.2), nn.Linear(encoder.size, 128), nn.ReLU(), nn.Linear(128, CLASSES))
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.01)
    loader = DataLoader(Folder(folder, varied), BATCH, shuffle=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, epochs * len(loader))
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
            schedule.step()
            stepped()

    def score() -> float:
        right = 0
        net.eval()
        with torch.inference_mode():
            for x, y in DataLoader(Folder(other, False), 100):
                right += int((net(x).argmax(1) == y).sum())
        return right / len(list(other.rglob("*.jpg")))

    return score
