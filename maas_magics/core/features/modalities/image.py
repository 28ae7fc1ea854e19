"""Pictures: files of any size, which a network sees in one size."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import OptionError
from maas_magics.api.signature import TensorSpec
from maas_magics.core.data import media
from maas_magics.core.data.arrow import Array
from maas_magics.core.features import pictures
from maas_magics.core.features.file_columns import FileFeature, FileProfile
from maas_magics.core.features.fitting import FitConfig, Tell
from maas_magics.core.features.modalities import Modality, modalities, options_of
from maas_magics.core.features.pictures import AUGMENTS
from maas_magics.core.features.port import Port
from maas_magics.core.features.thumbnails import of_picture

if TYPE_CHECKING:
    from torch import Tensor, nn

    from maas_magics.core.features.draw import Draw

LARGEST = 64
"""Height and width of pictures that come in several sizes, or in larger ones, as a network from scratch sees them."""

MOST_SIDE = 1024
"""Height and width that may be declared."""

ASKED = 200
"""Pictures whose size and colours are looked at."""

DECODED = 32
"""Of these, pictures whose pixels are looked at: each is decoded before the first step."""

LEAST_SPREAD = 1e-3
"""Of a channel's values within 0…1; what is one grey everywhere is not blown up."""


class ImageFeature(FileFeature, frozen=True, kw_only=True, tag="image"):
    """Pictures of files, all seen in one size.

    Attributes
    ----------
    channels, height, width : int
        Of what the network sees.
    mean, std : tuple of float
        Of each channel, of values within 0…1.
    resample : str
        How Pillow resizes a picture: ``bilinear``, ``bicubic``, ``lanczos`` …
    whole : bool
        Whether the whole picture is brought into shape, and not its middle cut to it.
    edge : int
        What the shorter side is resized to before the middle is cut out; 0 where that is as large as can be.
    """

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    masked: ClassVar[bool] = True

    resample: str = "bilinear"
    whole: bool = False
    edge: int = 0

    @property
    def spec(self) -> TensorSpec:
        """Bytes of files, (n, 1)."""
        return TensorSpec(self.name, "BYTES", (-1, 1), "a picture: the bytes of its file; base64 in JSON")

    @property
    def entry(self) -> TensorSpec:
        """Pixels, uint8 (n, channels, height, width)."""
        return TensorSpec(self.name, "UINT8", (-1, *self.shape), "pixels, upright, cut to shape around the middle")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row."""
        return self.channels, self.height, self.width

    @property
    def port(self) -> Port:
        """Its pixels, standardised."""
        return Port("image", self.shape)

    def decoded(self, data: bytes) -> Array:
        """Pixels, uint8 (channels, height, width)."""
        size = self.height, self.width, self.channels
        return pictures.decoded(data, *size, self.resample, self.whole, self.edge)

    def mask(self, value: bytes, mask: Any) -> Array:
        """Class numbers of each pixel, int32 (height, width): by the nearest pixel of the mask."""
        return pictures.mask(value, mask, self.height, self.width, self.whole, self.edge)

    @property
    def missing(self) -> Array:
        """The mean of each channel everywhere."""
        mean = np.round(255 * np.array(self.mean)).astype(np.uint8).reshape(-1, 1, 1)
        return np.broadcast_to(mean, self.shape)

    def module(self) -> nn.Module:
        """Standardises pixels of each channel."""
        from maas_magics.core.features.pixels import Pixels

        center = [[[255 * mean]] for mean in self.mean]
        scale = [[[1 / (255 * max(std, LEAST_SPREAD))]] for std in self.std]
        return Pixels(center, scale, double=False)

    @property
    def augments(self) -> tuple[str, ...]:
        """Those of pictures."""
        return AUGMENTS

    def varied(self, entered: Tensor, how: Mapping[str, float], draw: Draw) -> Tensor:
        """Pictures, varied."""
        from maas_magics.core.features.augment_pictures import varied

        return varied(entered, how, draw)

    def varied_mask(self, mask: Tensor, how: Mapping[str, float], draw: Draw) -> Tensor:
        """Masks, mirrored, cut and turned as their pictures."""
        from maas_magics.core.features.augment_pictures import MOVES, varied

        return varied(mask, {name: most for name, most in how.items() if name in MOVES}, draw, nearest=True)

    @property
    def reader(self) -> str:
        """Pixels of pictures, upright, of one size."""
        if self.edge:
            return ""
        mode, size, how = "RGB" if self.channels == 3 else "L", (self.width, self.height), self.resample.upper()
        fit = f"found.resize({size}, " if self.whole else f"ImageOps.fit(found, {size}, "
        return (
            "def READ(files):\n"
            "    rows = []\n"
            "    for data in files:\n"
            "        found = Image.open(io.BytesIO(data))\n"
            f'        found.draft("{mode}", ({2 * self.width}, {2 * self.height}))\n'
            f'        found = ImageOps.exif_transpose(found).convert("{mode}")\n'
            f"        if found.size != {size}:\n"
            f"            found = {fit}Image.Resampling.{how})\n"
            f"        rows.append(np.array(found).reshape({self.height}, {self.width}, {self.channels}))\n"
            "    return np.stack(rows).transpose(0, 3, 1, 2)\n"
        )

    @property
    def reader_imports(self) -> tuple[str, ...]:
        """What decodes pictures."""
        return ("import io", "from PIL import Image, ImageOps")

    def drawn(self, rows: int, random: np.random.Generator) -> Array:
        """Pictures of noise."""
        from PIL import Image

        found = np.empty((rows, 1), dtype=object)
        for row in range(rows):
            stream = io.BytesIO()
            noise = random.integers(0, 256, (self.height, self.width, 3), dtype=np.uint8)
            Image.fromarray(noise).save(stream, "PNG")
            found[row, 0] = stream.getvalue()
        return found


class ImageProfile(FileProfile):
    """Fits `ImageFeature` to a column that was declared to hold pictures."""

    kind = "image"

    def __init__(self, field: pa.Field, fit: FitConfig) -> None:
        super().__init__(field, fit)
        self._side = _side(field)

    def finish(self, sample: pa.ChunkedArray, notify: Tell) -> ImageFeature | None:
        """What the column is."""
        if self._given:
            return ImageFeature(self.name, **self._given)
        few = self._some(sample, ASKED, notify)
        if not few:
            return None
        values = list(few.values())
        found = media.each(values, pictures.sides, self._read, self.name, (0, 0, False))
        sizes = {(height, width) for height, width, _ in found}
        channels = 3 if any(colours for *_, colours in found) else 1
        height, width = sizes.pop() if len(sizes) == 1 else (self._side, self._side)
        if max(height, width) > self._side:
            height, width = _fitted(height, width, self._side)
        few = {row: few[row] for row in list(few)[:: -(-len(few) // DECODED)]}
        grey = np.zeros((channels, height, width), dtype=np.uint8)
        rows = media.each(
            list(few.values()),
            lambda data: pictures.decoded(data, height, width, channels),
            self._read,
            self.name,
            grey,
        )
        self.seen = dict(zip(few, rows, strict=True))
        pixels = np.stack(rows).astype(np.float64) / 255
        told = " in grey" if channels == 1 else ""
        notify(f"Column {self.name!r}: pictures are seen as {height} × {width} pixels{told}.")
        return ImageFeature(
            self.name,
            channels=channels,
            height=height,
            width=width,
            mean=tuple(pixels.mean((0, 2, 3)).tolist()),
            std=tuple(pixels.std((0, 2, 3)).tolist()),
        )


def _fitted(height: int, width: int, longest: int) -> tuple[int, int]:
    """Sides of the same shape, the longer one of so many pixels."""
    most = max(height, width)
    return max(8, round(height * longest / most)), max(8, round(width * longest / most))


def _side(field: pa.Field) -> int:
    """Pixels of the longer side that were declared.

    Raises
    ------
    OptionError
        If they are no such number.
    """
    asked = options_of(field).get("size")
    if asked is None:
        return LARGEST
    if not asked.isdigit() or not 8 <= int(asked) <= MOST_SIDE:
        raise OptionError(
            f"The size of the pictures of {field.name!r} is {asked!r}; 8 to {MOST_SIDE} pixels were expected.",
            f"--feature {field.name}=image(size=128)",
        )
    return int(asked)


def recognise(values: pa.ChunkedArray) -> str:
    """Why a column holds pictures: most of its first files begin as pictures do; empty where they do not."""
    heads = media.first_bytes(values, media.PICTURES)
    return "holds pictures" if media.are_most(map(pictures.is_picture, heads)) else ""


modalities.register("image")(
    Modality(
        ImageFeature,
        ImageProfile,
        recognise,
        pictures.check,
        of_picture,
        options=("size",),
        check_mask=pictures.check_mask,
    )
)
