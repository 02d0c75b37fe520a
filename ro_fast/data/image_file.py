"""One image file as bytes of grey or RGB, whatever Pillow reads and however its pixels are stored."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ro_fast.data.files import reason
from ro_fast.errors import InputError
from ro_fast.installing import pip_install

if TYPE_CHECKING:
    from PIL.Image import Image

# Formats that Pillow hands to other programs or can't decode by itself, or that hold no picture.
_REFUSED = {"EPS", "WMF", "MPEG", "HDF5", "GRIB", "BUFR", "FPX", "MIC"}
_GREY = {"1", "L", "LA"}
_BACKGROUND = 255  # white
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # tags of TIFF

TRANSPARENT = "transparent pixels lie on white"
FRAMES = "only the first of several frames is read"
DEEP = "16 bits are scaled to 8"


class Unreadable(Exception):
    """A file that is not an image, or not one that can become 8-bit grey or RGB without a guess."""


@functools.cache
def suffixes() -> frozenset[str]:
    """The endings of files that can be read, in lower case."""
    return frozenset(suffix for suffix, name in _pillow().registered_extensions().items() if name in _formats())


@functools.cache
def _formats() -> tuple[str, ...]:
    image = _pillow()
    image.init()
    return tuple(sorted(set(image.OPEN) - _REFUSED))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within, Pillow doesn't warn of tags that don't matter to the pixels: in all threads, so it must be begun before them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def pillow_version() -> str:
    """The version of the library that decodes."""
    return str(_pillow().__version__)


def read_image(path: Path | IO[bytes]) -> tuple[np.ndarray, list[str]]:
    """Returns an image [C, H, W] of uint8, upright as its EXIF orientation says, and what was done to its values.

    C is 1 for grey modes and 3 for all others, palettes included. 16 bits v become round(v / 257); transparent pixels are
    composed on white; of several frames the first counts. What Pillow warns of is not silenced here, see :func:`quiet`.

    Raises:
        Unreadable: if Pillow can't decode it, or its values have no known white (32-bit numbers).
    """
    pillow = _pillow()
    try:
        from PIL import ImageOps

        with pillow.open(path, formats=_formats()) as image:
            notes = [FRAMES] if getattr(image, "is_animated", False) else []
            image.load()
            pixels, more = _as_bytes(ImageOps.exif_transpose(image), *_sixteen_bits(image))
            return pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1), notes + more
    except Unreadable:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise Unreadable(reason(error).split(" '")[0]) from error


def _sixteen_bits(image: Image) -> tuple[int, int] | tuple[None, None]:
    """The values of black and white, if the image is of grey in up to 16 bits, which Pillow passes on as they are."""
    if not (image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG"))):
        return None, None
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    largest = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
    return (largest, 0) if tags.get(_PHOTOMETRIC) == 0 else (0, largest)


def _as_bytes(image: Image, black: int | None, white: int | None) -> tuple[np.ndarray, list[str]]:  # [H, W] or [H, W, C]
    if black is not None and white is not None:
        if image.info.get("transparency") is not None:
            raise Unreadable("16-bit grey with a transparent value; save it without")
        share = (np.asarray(image).astype(np.float64) - black) / (white - black)
        return np.rint(share * 255).astype(np.uint8), [DEEP]
    if image.mode in ("I", "F"):
        raise Unreadable(f"32-bit values (Pillow's mode {image.mode}) without a known white; save it with 8 or 16 bits")
    grey = image.mode in _GREY
    if not image.has_transparency_data:
        return np.asarray(image.convert("L" if grey else "RGB")), []
    values = np.asarray(image.convert("LA" if grey else "RGBA")).astype(np.int64)
    alpha = values[..., -1:]
    if (alpha == 255).all():
        return values[..., :-1].astype(np.uint8), []
    return ((values[..., :-1] * alpha + _BACKGROUND * (255 - alpha) + 127) // 255).astype(np.uint8), [TRANSPARENT]


@functools.cache
def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError(f"images in files need Pillow: {pip_install('train')} ({error})") from error
    return Image
