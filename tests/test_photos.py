"""Reading pictures of any origin."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from cifar_core import photos
from cifar_core.photos import Box, PhotoError, read_photo, region, square, to_input


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def noise(width: int, height: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG written by hand, so that it can claim any size and depth."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def webp_claiming(width: int, height: int) -> bytes:
    """An extended WebP file whose header claims a canvas."""
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


def one_sentence(error: pytest.ExceptionInfo[Any]) -> str:
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert text[0].isupper() or text.startswith(("photo", "row"))
    return text


# What is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_lossless_pictures_keep_every_pixel(kind, options):
    pixels = noise(7, 5)
    assert np.array_equal(np.asarray(read_photo(encoded(Image.fromarray(pixels), kind, **options))), pixels)


def test_jpeg_equals_what_pillow_decodes():
    content = encoded(Image.fromarray(noise(40, 30)), "JPEG", quality=90)
    assert np.array_equal(np.asarray(read_photo(content)), np.asarray(Image.open(io.BytesIO(content))))


def test_content_decides_the_format_and_not_the_name():
    content = encoded(Image.fromarray(noise(4, 4)), "WEBP", lossless=True)
    assert read_photo(content, "photo.gif").size == (4, 4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(noise(6, 4)), "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert np.array_equal(np.asarray(read_photo(content)), np.asarray(expected))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_spoil_a_picture():
    content = encoded(Image.fromarray(noise(6, 4)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff")
    assert read_photo(content).size == (6, 4)


def test_transparency_is_laid_on_white():
    pixels = np.array([[[200, 100, 0, 0], [200, 100, 0, 255], [200, 100, 0, 51]]], np.uint8)
    seen = np.asarray(read_photo(encoded(Image.fromarray(pixels, "RGBA"))))[0]
    expected = 255 + (pixels[0, :, :3].astype(float) - 255) * pixels[0, :, 3:] / 255
    assert np.abs(seen - expected).max() <= 1


def test_transparent_palette_colour_becomes_white():
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((1, 0), 1)
    seen = np.asarray(read_photo(encoded(picture, transparency=0)))
    assert seen.tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_grey_with_alpha_is_laid_on_white():
    picture = Image.merge("LA", (Image.new("L", (1, 1), 100), Image.new("L", (1, 1), 0)))
    assert np.asarray(read_photo(encoded(picture))).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_of_any_depth_spans_black_to_white(depth):
    """A row of black, white and, where there is one, the level nearest the middle."""
    top = 2**depth - 1
    middle = top // 2
    bits = "".join(f"{value:0{depth}b}" for value in (0, top, middle)).ljust(48, "0")
    rows = b"\0" + int(bits, 2).to_bytes(6, "big")[: -(-3 * depth // 8)]
    seen = np.asarray(read_photo(png(3, 1, depth, 0, rows)))[0]
    assert seen.tolist() == [[0] * 3, [255] * 3, [round(middle / top * 255)] * 3]


def test_sixteen_bit_grey_is_scaled_and_rounded():
    values = np.arange(65536, dtype=">u2").reshape(256, 256)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    seen = np.asarray(read_photo(png(256, 256, 16, 0, rows)))[..., 0]
    assert np.array_equal(seen, np.rint(values.astype(float) / 257))


def test_transparent_level_of_sixteen_bit_grey_becomes_white():
    rows = b"\0" + struct.pack(">2H", 300, 0)
    seen = read_photo(png(2, 1, 16, 0, rows, chunk(b"tRNS", struct.pack(">H", 300))))
    assert np.asarray(seen)[0, :, 0].tolist() == [255, 0]


def test_transparent_colour_of_sixteen_bit_colour_becomes_white():
    rows = b"\0" + struct.pack(">6H", 40000, 0, 0, 0, 0, 65535)
    seen = read_photo(png(2, 1, 16, 2, rows, chunk(b"tRNS", struct.pack(">3H", 40000, 0, 0))))
    assert np.asarray(seen)[0].tolist() == [[255, 255, 255], [0, 0, 255]]


def test_cmyk_is_converted():
    content = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    red, green, blue = np.asarray(read_photo(content)).reshape(-1, 3).mean(axis=0)
    assert red > 240
    assert green < 15
    assert blue < 15


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animation_shows_its_first_frame(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert np.asarray(read_photo(content))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_large_picture_is_shrunk_to_the_longest_side_kept(kind):
    assert read_photo(encoded(Image.new("RGB", (6000, 3000), "red"), kind)).size == (2048, 1024)


def test_rotated_large_picture_keeps_its_shape():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.new("RGB", (6000, 3000)), "JPEG", exif=exif)
    assert read_photo(content).size == (1024, 2048)


def test_large_jpeg_is_not_decoded_at_full_size(monkeypatch):
    content = encoded(Image.new("RGB", (7000, 7000), "red"), "JPEG")
    sizes = []
    monkeypatch.setattr(photos, "_orientation", lambda picture: sizes.append(picture.size) or 1)
    assert read_photo(content).size == (2048, 2048)
    assert sizes == [(3500, 3500)]


def test_a_jpeg_of_more_pixels_is_read_where_it_is_shrunk_while_it_is_decoded(monkeypatch):
    """As phones of today take them: the limit is of what is held, and of the time that reading takes."""
    monkeypatch.setattr(photos, "MAX_PIXELS", 4_900_000)
    monkeypatch.setattr(photos, "MAX_JPEG_PIXELS", 17_000_000)
    assert read_photo(encoded(Image.new("RGB", (4100, 4100), "red"), "JPEG")).size == (2048, 2048)
    for large, kind, limit in (
        (Image.new("RGB", (4100, 4100)), "PNG", "4 million"),
        (Image.new("RGB", (5000, 4100)), "JPEG", "17 million"),
        (Image.new("RGB", (9000, 600)), "JPEG", "4 million"),
    ):
        with pytest.raises(PhotoError, match=f"more than the {limit} that are read"):
            read_photo(encoded(large, kind))


# What is refused ---------------------------------------------------------------------------------------------------


def test_nothing_is_refused():
    with pytest.raises(PhotoError, match=r"^The file is empty; choose a picture \(PNG, JPEG or WebP\)\.$"):
        read_photo(b"")


@pytest.mark.parametrize("content", [b"hello", b"\0" * 1000, b"<html></html>", b"\x89PN"])
def test_what_is_no_picture_is_refused(content):
    with pytest.raises(PhotoError, match=r"notes\.png is not a picture") as error:
        read_photo(content, "notes.png")
    assert str(error.value).endswith(".")


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_other_formats_are_named_with_those_that_are_read(kind):
    with pytest.raises(PhotoError, match=f"photo.png is a {kind} file; save it as PNG, JPEG or WebP") as error:
        read_photo(encoded(Image.new("RGB", (4, 4)), kind), "photo.png")
    one_sentence(error)


def test_further_formats_can_be_allowed():
    pixels = noise(5, 4)
    content = encoded(Image.fromarray(pixels), "BMP")
    assert np.array_equal(np.asarray(read_photo(content, formats=("PNG", "BMP"))), pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
def test_truncated_picture_is_refused(kind, part):
    content = encoded(Image.fromarray(noise(64, 64)), kind)
    with pytest.raises(PhotoError, match="truncated or damaged") as error:
        read_photo(content[: max(12, int(part * len(content)))], "photo")
    one_sentence(error)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_damaged_bytes_raise_nothing_but_a_photo_error(kind):
    content = encoded(Image.fromarray(noise(24, 24)), kind)
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for position in rng.integers(0, min(len(content), 400), 6):
            damaged[position] = rng.integers(256)
        try:
            assert read_photo(bytes(damaged), formats=("PNG", "JPEG", "WebP", "BMP")).mode == "RGB"
        except PhotoError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    "content",
    [png(60_000, 60_000, 8, 2, b""), png(8_000, 7_000, 8, 0, b""), webp_claiming(16_000, 16_000)],
    ids=["png", "just above the limit", "webp"],
)
def test_decompression_bomb_is_refused_by_its_size_before_decoding(content, monkeypatch):
    monkeypatch.setattr(photos, "_plain", lambda picture: pytest.fail("decoded"))
    with pytest.raises(PhotoError, match=r"measures [\d,]+ by [\d,]+ pixels, more than the [25]0 million") as error:
        read_photo(content, "photo")
    one_sentence(error)


def test_real_webp_sizes_are_read_from_every_header():
    picture = Image.fromarray(noise(300, 200, 4), "RGBA")
    lossy = encoded(picture.convert("RGB"), "WEBP")
    lossless = encoded(picture, "WEBP", lossless=True)
    extended = encoded(picture, "WEBP")
    assert {content[12:16] for content in (lossy, lossless, extended)} == {b"VP8 ", b"VP8L", b"VP8X"}
    for content in (lossy, lossless, extended):
        assert photos._webp_size(content) == (300, 200)


def test_picture_without_pixels_is_refused():
    with pytest.raises(PhotoError):
        read_photo(png(0, 5, 8, 2, b""))


def test_pillows_tolerance_of_truncated_files_is_left_off():
    from PIL import ImageFile

    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


# What the network sees ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(50, 30), (30, 50), (31, 30), (30, 30)])
def test_crop_takes_the_centre_square(size):
    pixels = noise(*size)
    left, top = (size[0] - 30) // 2, (size[1] - 30) // 2
    assert np.array_equal(np.asarray(square(Image.fromarray(pixels))), pixels[top : top + 30, left : left + 30])


def test_pad_keeps_everything_between_grey_bars():
    pixels = noise(10, 4)
    seen = np.asarray(square(Image.fromarray(pixels), "pad"))
    assert seen.shape == (10, 10, 3)
    assert np.array_equal(seen[3:7], pixels)
    assert (np.delete(seen, slice(3, 7), axis=0) == 128).all()


def test_unknown_fit_is_refused():
    with pytest.raises(ValueError, match="fit must be one of crop, pad, but is 'stretch'"):
        square(Image.new("RGB", (2, 1)), "stretch")


def test_photo_of_the_right_size_keeps_every_pixel():
    pixels = noise(32, 32)
    seen = to_input(Image.fromarray(pixels))
    assert np.array_equal(seen, pixels.transpose(2, 0, 1))
    assert seen.dtype == np.uint8
    assert seen.flags.c_contiguous


def test_shrinking_does_not_alias():
    """A pattern finer than the result can show comes out as its mean, as the sampling theorem asks."""
    board = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    seen = to_input(Image.fromarray(np.stack([board] * 3, axis=2)))
    assert np.abs(seen.astype(int) - 127.5).max() <= 2


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (2048, 1500)])
def test_every_photo_gives_an_input(size, fit):
    assert to_input(Image.new("RGB", size, "red"), 24, fit).shape == (3, 24, 24)


def test_one_colour_stays_that_colour():
    seen = to_input(Image.new("RGB", (77, 55), (12, 200, 99)))
    assert (seen == np.array([12, 200, 99])[:, None, None]).all()


def test_input_is_made_from_the_square():
    photo = Image.fromarray(noise(90, 60))
    for fit in ("crop", "pad"):
        assert np.array_equal(to_input(photo, fit=fit), to_input(square(photo, fit)))


def test_module_imports_no_torch():
    code = (
        "import sys, cifar_core.photos, cifar_core.datasets; sys.exit(bool({'torch', 'pyarrow'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("width", "height"), [(100, 60), (61, 100), (33, 33), (1, 7)])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_a_box_moves_its_square_from_one_end_of_the_photo_to_the_other(width, height, fit):
    largest = min(width, height) if fit == "crop" else max(width, height)
    for size in (1.0, 0.5, 0.1):
        left, top, side = region(width, height, fit, Box(size, 0, 0))
        assert side == max(round(largest * size), 1)
        assert (left, top) == (0, 0)
        left, top, _ = region(width, height, fit, Box(size, 1, 1))
        assert (left + side, top + side) == (width, height)
        left, top, _ = region(width, height, fit, Box(size))
        assert abs(left + side / 2 - width / 2) <= 0.5
        assert abs(top + side / 2 - height / 2) <= 0.5
        shown = square(Image.new("RGB", (width, height), "red"), fit, Box(size, 1, 1))
        assert shown.size == (side, side)


def test_a_padded_square_is_grey_where_there_is_no_photo_and_the_photo_where_there_is():
    pixels = noise(40, 20)
    seen = np.asarray(square(Image.fromarray(pixels), "pad", Box(0.75, 0.5, 0)))
    assert np.array_equal(seen[:20], pixels[:, 5:35])
    assert (seen[20:] == 128).all()


def test_a_box_that_is_none_is_refused():
    for box in (Box(0), Box(1.1), Box(1, -0.1), Box(1, 0, 2)):
        with pytest.raises(ValueError, match="A box has a size"):
            region(10, 10, "crop", box)
