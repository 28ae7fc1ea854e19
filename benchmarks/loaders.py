"""A torch Dataset whose rows take a while: `--fast auto` and loader workers beside reading in the training's process."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks.measure import in_turns, ratios, table

ROUNDS = 3
EPOCHS = 15


def main() -> None:
    """Print one table."""
    import numpy as np
    import torch
    from PIL import Image
    from torch import Tensor, nn
    from torch.utils.data import DataLoader, Dataset, TensorDataset

    from maas_magics.api.events import EpochEnd, Started
    from maas_magics.api.requests import TrainRequest
    from maas_magics.local.backend import LocalBackend

    rng = np.random.default_rng(0)

    class Pictures(Dataset[Any]):
        """JPEGs of 384×384 that are decoded and shrunk, some two milliseconds each."""

        def __init__(self) -> None:
            self.files = []
            for _ in range(32):
                rough = rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)
                file = io.BytesIO()
                Image.fromarray(rough).resize((384, 384)).save(file, "jpeg", quality=90)
                self.files.append(file.getvalue())

        def __len__(self) -> int:
            return 640

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            picture = Image.open(io.BytesIO(self.files[index % 32])).resize((32, 32))
            return torch.from_numpy(np.asarray(picture, dtype=np.float32).transpose(2, 0, 1) / 255), index % 4

    class Waiting(Dataset[Any]):
        """Rows that come from elsewhere, two milliseconds each."""

        def __len__(self) -> int:
            return 640

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            time.sleep(0.002)
            return torch.full((3, 32, 32), index % 4 / 4), index % 4

    rows = TensorDataset(torch.randn(20_000, 20), torch.randint(0, 4, (20_000,)))

    class Plain(Dataset[Any]):
        """Rows that are there."""

        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            return rows[index]

    def conv() -> nn.Module:
        body = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU())
        return nn.Sequential(body, nn.Flatten(), nn.Linear(32 * 49, 4))

    def dense() -> nn.Module:
        return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4))

    works: dict[str, tuple[Any, Callable[[], nn.Module], bool]] = {
        "JPEG, 384×384": (Pictures(), conv, True),
        "2 ms of waiting a row": (Waiting(), conv, True),
        "rows of 20 numbers": (Plain(), dense, False),
        "the same as TensorDataset": (rows, dense, False),
    }
    picked: dict[str, list[str]] = {}

    def run(backend: LocalBackend, work: str, way: str) -> float:
        """Seconds from the beginning, trials included, to the end of the last epoch."""
        data, make, _ = works[work]
        options: dict[str, Any] = {}
        if way == "DataLoader":
            data = DataLoader(data, 32, shuffle=True)
        elif way != "Dataset":
            options = {"fast": "auto", "compile": False} if way == "fast" else {"loader_workers": 2}
        begun = time.time()
        job = backend.submit(
            TrainRequest(name="m", data=data, model=make(), batch_size=32, epochs=EPOCHS, validation=0.0, **options)
            if not isinstance(data, DataLoader)
            else TrainRequest(name="m", data=data, model=make(), epochs=EPOCHS, **options)
        )
        job.result()
        events = list(job.events(follow=False))
        if way == "fast":
            picked.setdefault(work, []).append(
                next(e.summary.get("fast", "") for e in events if isinstance(e, Started))
            )
        return max(event.time for event in events if isinstance(event, EpochEnd)) - begun

    found = []
    with tempfile.TemporaryDirectory() as place:
        backend = LocalBackend(place)
        for work, (_, _, slow) in works.items():
            ways = ["DataLoader", "Dataset", "fast", *(["workers"] if slow else [])]

            def runs(work: str = work, ways: list[str] = ways) -> dict[str, Callable[[], float]]:
                return {way: lambda way=way: run(backend, work, way) for way in ways}  # type: ignore[misc]

            times = ratios(in_turns(runs(), ROUNDS), "DataLoader")
            speeds = [f"{1 / times[way]:.2f}" if way in times else "–" for way in ("Dataset", "fast", "workers")]
            found.append([work, *speeds, "; ".join(picked[work])])
    table(
        "Reading a torch Dataset",
        ("rows", "`--data DATASET`", "`--fast auto`", "`--loader-workers 2`", "what was picked"),
        found,
        f"Rows a second over the same dataset in a `DataLoader(…, num_workers=0)`, medians of {ROUNDS} turns; from the call "
        "to the end of the last epoch, trials included.",
    )
