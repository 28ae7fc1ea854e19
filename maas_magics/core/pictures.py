"""Pictures that a model has drawn, with their captions: a list of them that shows itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from maas_magics.api.errors import require
from maas_magics.api.gallery import MOST, Example, Gallery, html_gallery
from maas_magics.api.png import png
from maas_magics.core.data.arrow import Array

if TYPE_CHECKING:
    from PIL.Image import Image


SIDE = 96
"""Pixels that the longer side of a small picture is shown in, at most."""


class Pictures(Sequence[Any]):
    """Pictures of Pillow, in the order of their captions; a notebook shows the first of them.

    Parameters
    ----------
    array : ndarray, uint8, shape (n, height, width) or (n, height, width, 3)
        Their pixels.
    captions : sequence of str
        What each was drawn from.
    model : str
        Who drew them.
    """

    def __init__(self, array: Array, captions: Sequence[str], model: str) -> None:
        self.array, self.captions, self.model = array, list(captions), model

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, place: int) -> Image: ...
    @overload
    def __getitem__(self, place: slice) -> Pictures: ...
    def __getitem__(self, place: int | slice) -> Image | Pictures:
        if isinstance(place, slice):
            return Pictures(self.array[place], self.captions[place], self.model)
        return as_image(self.array[place])

    def __iter__(self) -> Iterator[Image]:
        return map(as_image, self.array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.array, dtype=dtype, copy=copy)

    def save(self, folder: str | Path) -> list[Path]:
        """Write each as a PNG file, ``0.png`` and on.

        Parameters
        ----------
        folder : str or Path
            Made where it is not there.
        """
        place = Path(folder).expanduser()
        place.mkdir(parents=True, exist_ok=True)
        files = [place / f"{number}.png" for number in range(len(self))]
        for file, pixels in zip(files, self.array, strict=True):
            file.write_bytes(as_png(pixels))
        return files

    @property
    def gallery(self) -> Gallery:
        """The first of them with their captions."""
        return Gallery(caption=self.model, examples=tuple(examples(self.array, self.captions)))

    def __repr__(self) -> str:
        size = " × ".join(map(str, self.array.shape[1:3]))
        return f"<Pictures of {self.model}: {len(self)} of {size} pixels>"

    def _repr_html_(self) -> str:
        return html_gallery(tuple(examples(self.array, self.captions)), repr(self)[1:-1])


def examples(array: Array, captions: Sequence[str]) -> Iterator[Example]:
    """The first pictures as a notebook shows them.

    Parameters
    ----------
    array : ndarray, uint8, shape (n, height, width) or (n, height, width, 3)
        Their pixels.
    captions : sequence of str
        Of each.
    """
    for row, (pixels, caption) in enumerate(zip(array[:MOST], captions, strict=False)):
        times = max(1, SIDE // max(pixels.shape[:2]))
        yield Example(row=row, title=caption, image=as_png(pixels.repeat(times, axis=0).repeat(times, axis=1)))


def as_image(pixels: Array) -> Image:
    """A picture of Pillow.

    Parameters
    ----------
    pixels : ndarray, uint8, shape (height, width) or (height, width, 3)
    """
    require("PIL", "pillow", "Pictures", "maas-magics[image]")
    from PIL import Image

    return Image.fromarray(pixels)


def as_png(pixels: Array) -> bytes:
    """The bytes of a PNG file.

    Parameters
    ----------
    pixels : ndarray, uint8, shape (height, width) or (height, width, 3)
    """
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    return png(pixels.tobytes(), pixels.shape[0], pixels.shape[1], channels)


def files_of(array: Array) -> Array:
    """Pictures as the bytes of PNG files, as columns of tables hold them, object (n,).

    Parameters
    ----------
    array : ndarray, uint8, shape (n, height, width) or (n, height, width, 3)
    """
    found = np.empty(len(array), dtype=object)
    found[:] = [as_png(pixels) for pixels in array]
    return found
