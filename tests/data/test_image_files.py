"""Images as people have them: modes, depths, transparency, orientation, damage."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ro_fast.data.image_file import DEEP, FRAMES, TRANSPARENT, Unreadable, quiet, read_image, suffixes

RED = (200, 10, 20)


def read(tmp_path, image, name="a.png", **options):
    image.save(tmp_path / name, **options)
    return read_image(tmp_path / name)


def of_pixels(mode, colour):
    return Image.new(mode, (3, 2), colour)


def clear_palette():
    image = of_pixels("RGB", RED).quantize(4)
    image.info["transparency"] = image.getpixel((0, 0))
    return image


@pytest.mark.parametrize(
    ("image", "name", "pixel", "notes"),
    [
        (of_pixels("1", 1), "a.png", [255], []),
        (of_pixels("L", 77), "a.bmp", [77], []),
        (of_pixels("RGB", RED).quantize(4), "a.png", RED, []),
        (of_pixels("RGB", RED), "a.webp", None, []),
        (of_pixels("RGB", RED), "a.jfif", None, []),
        (of_pixels("RGB", RED), "a.tif", RED, []),
        (of_pixels("RGB", RED), "a.gif", RED, []),
        (of_pixels("CMYK", (0, 255, 255, 0)), "a.tiff", [255, 0, 0], []),
        (of_pixels("RGBA", (*RED, 255)), "a.png", RED, []),
        (of_pixels("RGBA", (*RED, 0)), "a.png", [255, 255, 255], [TRANSPARENT]),
        (of_pixels("RGBA", (200, 0, 100, 51)), "a.png", [244, 204, 224], [TRANSPARENT]),
        (of_pixels("LA", (0, 51)), "a.png", [204], [TRANSPARENT]),
        (clear_palette(), "a.png", [255, 255, 255], [TRANSPARENT]),
        (Image.fromarray(np.full((2, 3), 25700, np.uint16)), "a.png", [100], [DEEP]),
        (Image.fromarray(np.full((2, 3), 65535, np.uint16)), "a.tif", [255], [DEEP]),
        (Image.fromarray(np.full((2, 3), 25700, np.uint16)), "a.pgm", [100], [DEEP]),
    ],
)
def test_every_mode_is_read_as_it_looks(tmp_path, image, name, pixel, notes):
    pixels, done = read(tmp_path, image, name, **({"format": "JPEG"} if name == "a.jfif" else {}))
    assert pixels.dtype == np.uint8 and pixels.shape[1:] == (2, 3)
    if pixel is None:  # lossy
        assert np.abs(pixels[:, 1, 1].astype(int) - RED).max() < 8
    else:
        assert (pixels == np.reshape(pixel, (-1, 1, 1))).all()
    assert done == notes


def test_endings_are_those_of_images_that_pillow_reads_itself():
    assert {".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".jpg", ".png", ".pgm"} <= suffixes()
    assert not {".eps", ".pdf", ".txt", ".wmf", ".h5"} & suffixes()


def test_an_image_is_turned_as_its_exif_says(tmp_path):
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    assert read(tmp_path, image, exif=exif)[0].tolist() == [[[3, 0], [4, 1], [5, 2]]]


def test_the_first_frame_counts_and_is_said(tmp_path):
    frames = [of_pixels("RGB", (value, 0, 0)) for value in (200, 100)]
    pixels, notes = read(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert pixels[:, 0, 0].tolist() == [200, 0, 0] and notes == [FRAMES]


def test_a_tiff_in_which_zero_is_white(tmp_path):
    image = Image.fromarray(np.full((2, 3), 65535, np.uint16))
    assert (read(tmp_path, image, "a.tif", tiffinfo={262: 0})[0] == 0).all()


@pytest.mark.parametrize("mode", ["F", "I"])
def test_numbers_without_a_white_are_told(tmp_path, mode):
    with pytest.raises(Unreadable, match="32-bit values"):
        read(tmp_path, of_pixels(mode, 3), "a.tif")


def test_no_other_program_is_run_for_an_image(tmp_path):
    of_pixels("RGB", RED).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(Unreadable):
        read_image(tmp_path / "a.png")


def stored(kind):
    content = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(content, kind)
    return content.getvalue()


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"]), st.data())
def test_flipped_bytes_give_an_image_or_a_reason(tmp_path_factory, kind, data):
    content = bytearray(stored(kind))
    for i in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
        content[i] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "flipped"
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with contextlib.suppress(Unreadable):
            with quiet():
                pixels, _ = read_image(path)
            assert pixels.dtype == np.uint8 and pixels.shape[0] in (1, 3)
    assert not said
