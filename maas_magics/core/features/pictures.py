"""Pictures of files as arrays: turned upright, in one mode, of one size."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from maas_magics.api.errors import DataError, require
from maas_magics.core.data.arrow import Array

AUGMENTS = ("flip", "crop", "rotate", "color", "erase")
"""Ways in which pictures may be varied for training."""

MOST_PIXELS = 64_000_000
"""Of a picture, before it is decoded; a quarter of that where each takes four bytes."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "ICO")
"""Kinds of files that Pillow opens here: others are rare, and some start a program."""

DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
"""Modes of Pillow with more than eight bits a pixel."""

CHANNELS = (1, 3, 4)
"""Lengths of an axis that is taken for colour channels."""


def channels_last(shape: tuple[int, ...]) -> bool:
    """Whether the colours of a picture of three axes lie in its last one, (height, width, channels)."""
    return shape[0] not in CHANNELS and shape[2] in CHANNELS


def is_picture(head: bytes) -> bool:
    """Whether a file is a picture, by how it begins."""
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")) or (
        head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    )


def opened(data: bytes) -> Any:
    """A picture, not decoded yet.

    Raises
    ------
    DataError
        If it is none, or too large.
    """
    require("PIL", "pillow", "Pictures", "maas-magics[image]")
    from PIL import Image, UnidentifiedImageError

    try:
        found = Image.open(io.BytesIO(data), formats=FORMATS)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        why = "" if isinstance(error, UnidentifiedImageError) else f": {_first(error)}"
        raise DataError(f"This is not a picture{why}.", "JPEG, PNG, WebP, GIF, BMP and TIFF are read.") from None
    most = MOST_PIXELS // 4 if found.mode in ("I", "F") else MOST_PIXELS
    if found.width * found.height > most:
        raise DataError(
            f"The picture has {found.width:,} × {found.height:,} pixels; {most:,} at most are decoded.",
            "Make it smaller.",
        )
    return found


def sides(data: bytes) -> tuple[int, int, bool]:
    """Height and width of a picture as it is looked at, and whether it has colours."""
    found = opened(data)
    try:
        turned = found.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"The picture cannot be decoded: {_first(error)}", "Leave it out, or save it anew.") from None
    height, width = (found.width, found.height) if turned else (found.height, found.width)
    return height, width, found.mode not in ("1", "L", "LA", *DEEP)


def decoded(
    data: bytes, height: int, width: int, channels: int, resample: str = "bilinear", whole: bool = False, edge: int = 0
) -> Array:
    """A picture, uint8 (channels, height, width): the first frame, upright, its middle cut to shape, scaled down.

    Parameters
    ----------
    data : bytes
        Of the file.
    height, width, channels : int
        Of what is made of it; 1 or 3 channels.
    resample : str
        How Pillow resizes it.
    whole : bool
        Whether the whole picture is brought into shape, and not its middle cut to it.
    edge : int
        What the shorter side is resized to before the middle is cut out; 0 where that is as large as can be.

    Raises
    ------
    DataError
        If it cannot be decoded.
    """
    from PIL import Image, ImageOps

    found = opened(data)
    try:
        least = 2 * max(width, edge), 2 * max(height, edge)
        found.draft("RGB" if channels == 3 else "L", least)  # a JPEG is decoded at a smaller scale
        if found.getexif().get(0x0112, 1) != 1:
            found = ImageOps.exif_transpose(found)
        if found.mode in DEEP:
            found = _eight_bits(found)
        if found.mode in ("RGBA", "LA", "PA") or "transparency" in found.info:
            found = Image.alpha_composite(Image.new("RGBA", found.size, "white"), found.convert("RGBA"))
        found = found.convert("RGB" if channels == 3 else "L")
        if found.size != (width, height):
            found = _shaped(found, (width, height), Image.Resampling[resample.upper()], whole, edge)
        made = np.asarray(found, dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"The picture cannot be decoded: {_first(error)}", "Leave it out, or save it anew.") from None
    return made[None] if channels == 1 else made.transpose(2, 0, 1)


def _shaped(found: Any, size: tuple[int, int], resample: Any, whole: bool, edge: int) -> Any:
    """A picture in shape: as a whole, or its middle."""
    from PIL import ImageOps

    if whole:
        return found.resize(size, resample)
    if not edge:
        return ImageOps.fit(found, size, resample)
    edge = max(edge, *size)
    short = min(found.size)
    sides = [edge if side == short else int(edge * side / short) for side in found.size]
    places = [(side - wanted) // 2 for side, wanted in zip(sides, size, strict=True)]
    scales = [came / side for came, side in zip(found.size, sides, strict=True)]
    first = [place * scale for place, scale in zip(places, scales, strict=True)]
    last = [start + wanted * scale for start, wanted, scale in zip(first, size, scales, strict=True)]
    return found.resize(size, resample, box=(*first, *last))


def mask(picture: bytes, data: Any, height: int, width: int, whole: bool = False, edge: int = 0) -> Array:
    """Class numbers of each pixel of a picture as it is `decoded`, int32 (height, width).

    Parameters
    ----------
    picture : bytes
        Of the picture's file.
    data : bytes, list or ndarray
        Of the mask's file, or its class numbers: a palette's are its indices.
    height, width : int
        As of `decoded`.
    whole : bool
        As of `decoded`.
    edge : int
        As of `decoded`.

    Raises
    ------
    DataError
        If the mask cannot be decoded, holds colours, or has not the size of the picture.
    """
    from PIL import Image

    values = _class_numbers(data) if isinstance(data, bytes) else np.asarray(data)
    if values.ndim != 2 or values.dtype.kind not in "iub":
        raise DataError("This is not a mask of class numbers, (height, width).", "Whole numbers, such as 0 and 1.")
    if picture:
        tall, wide, _ = sides(picture)
        if values.shape != (tall, wide):
            raise DataError(
                f"The mask has {values.shape[0]} × {values.shape[1]} pixels, and its picture {tall} × {wide}.",
                "Give masks of the pictures' size.",
            )
    found = Image.fromarray(np.ascontiguousarray(values, dtype=np.int32), "I")
    if found.size != (width, height):
        found = _shaped(found, (width, height), Image.Resampling.NEAREST, whole, edge)
    return np.asarray(found, dtype=np.int32)


def _class_numbers(data: bytes) -> Array:
    """The pixels of a mask, upright."""
    from PIL import Image, ImageOps

    if not data:
        raise DataError("The mask is missing.", "Leave the row out.")
    found = opened(data)
    try:
        values = np.asarray(ImageOps.exif_transpose(found))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"The mask cannot be decoded: {_first(error)}", "Leave it out, or save it anew.") from None
    if values.ndim == 3:
        colours = values[..., :1] if found.mode == "LA" else values[..., :3]
        if (colours != colours[..., :1]).any():
            raise DataError("The mask holds colours, and no class numbers.", "Grey or palette PNG files hold those.")
        values = colours[..., 0]
    return values.astype(np.int32) if values.dtype.kind in "iub" else values


def check(data: bytes) -> None:
    """Raise `DataError` for a picture that cannot be decoded."""
    decoded(data, 8, 8, 1)


def check_mask(picture: bytes, data: Any) -> None:
    """Raise `DataError` for a mask that cannot be decoded, or is not one of a picture."""
    mask(picture, data, 8, 8)


def _eight_bits(found: Any) -> Any:
    """A picture of 16 bits or floats, its range spread over 8 bits."""
    from PIL import Image

    values = np.asarray(found, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError("it holds values that are not numbers.")
    highest = 65_535.0 if found.mode.startswith("I;16") else values.max(initial=0)
    most = 65_535.0 if highest > 255 else 255.0 if highest > 1 else 1.0
    return Image.fromarray(np.clip(values / most * 255, 0, 255).astype(np.uint8), "L")


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
