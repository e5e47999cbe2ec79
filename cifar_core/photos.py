"""Pictures of any origin, read safely and cut to what a network sees."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

PHOTO_FORMATS = ("PNG", "JPEG", "WebP")

MAX_PIXELS = 50_000_000
"""Largest picture that is decoded, width times height; of a JPEG that is shrunk while it is decoded, what is left."""

MAX_JPEG_PIXELS = 250_000_000
"""Largest JPEG all the same; that takes seconds."""

MAX_SIDE = 2048
"""Longest side that is kept, pixels; networks see 32, a screen shows fewer than this."""

MAX_WEBP_PIXELS = 20_000_000
"""Of WebP, whose reader holds four copies of the canvas."""

MAX_COEFFICIENTS = 125_000_000
"""Largest progressive JPEG, pixels times colours: its reader holds two bytes for each, however small the result is."""

STRIPE_PIXELS = 4_000_000
"""So many pixels of a very large picture are converted at once."""

GREY = (128, 128, 128)
"""Colour of the bars beside a padded picture: the middle of the range, near zero once normalised."""

Fit = Literal["crop", "pad"]

# The opening bytes of formats people do upload, so that the answer can name theirs.
_SIGNATURES = (
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("WebP", 8, b"WEBP"),
    ("GIF", 0, b"GIF87a"),
    ("GIF", 0, b"GIF89a"),
    ("TIFF", 0, b"II*\x00"),
    ("TIFF", 0, b"MM\x00*"),
    ("AVIF", 4, b"ftypavi"),
    ("HEIC", 4, b"ftyphei"),
    ("HEIC", 4, b"ftyphev"),
    ("HEIC", 4, b"ftypmif1"),
    ("JPEG 2000", 0, b"\x00\x00\x00\x0cjP  "),
    ("JPEG XL", 0, b"\x00\x00\x00\x0cJXL "),
    ("Photoshop", 0, b"8BPS"),
    ("PDF", 0, b"%PDF"),
    ("PostScript", 0, b"%!PS"),
    ("SVG", 0, b"<svg"),
    ("icon (ICO)", 0, b"\x00\x00\x01\x00"),
    ("BMP", 0, b"BM"),
)

# Of the formats above, those spoken with a vowel first.
_VOWELS = ("AVIF", "SVG", "icon")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112


class PhotoError(ValueError):
    """One sentence for the user: why a picture cannot be read."""


def read_photo(content: bytes, name: str = "the file", formats: tuple[str, ...] = PHOTO_FORMATS) -> Image.Image:
    """A picture from untrusted bytes, upright, opaque and no larger than needed.

    The first frame of an animation; turned as its EXIF orientation says; transparency laid on white; grey, palette,
    16-bit and CMYK pictures converted; shrunk so that the longest side is at most `MAX_SIDE`.

    Args:
        name: What messages call the picture.
        formats: Accepted formats among PNG, JPEG, WebP and BMP. The content decides the format, the name never does.

    Returns:
        Mode RGB.

    Raises:
        PhotoError: Nothing there, no picture, another format, more pixels than are read, truncated or damaged.
    """
    subject = name[0].upper() + name[1:] if name.startswith(("the ", "what ")) else name
    if not content:
        raise PhotoError(f"{subject} is empty; choose a picture ({_listed(formats, 'or')}).")
    kind = _format(content)
    if kind is None:
        raise PhotoError(f"{subject} is not a picture; {_listed(formats)} files can be read.")
    if kind not in formats:
        article = "an" if kind.startswith(_VOWELS) else "a"
        raise PhotoError(f"{subject} is {article} {kind} file; save it as {_listed(formats, 'or')} and try again.")
    try:
        if kind == "WebP":
            _check_size(_webp_size(content), subject, MAX_WEBP_PIXELS)
        picture = _open(content, kind)
        size = picture.size
        picture.draft(None, (MAX_SIDE, MAX_SIDE))  # a large JPEG is decoded at a half, a quarter or an eighth
        factor = max(round(size[0] / max(picture.width, 1)), 1)
        most = min(MAX_PIXELS * factor**2, MAX_JPEG_PIXELS)
        if "progressive" in picture.info:
            most = MAX_COEFFICIENTS // len(picture.getbands())
        _check_size(size, subject, most)
        return _plain(picture)
    except PhotoError:
        raise
    # Pillow answers bad bytes with SyntaxError, OSError, EOFError, struct.error, zlib.error, ValueError, KeyError,
    # IndexError, MemoryError and more, differing between its versions; no list of them would stay complete.
    except Exception:
        raise PhotoError(
            f"{subject} is a {kind} picture that is truncated or damaged; try another copy of it."
        ) from None


def stored_size(content: bytes) -> tuple[int, int]:
    """Width and height of a picture as its file says, before it is turned or shrunk.

    Args:
        content: Of what `read_photo` has read.

    Raises:
        PhotoError: It is no picture.
    """
    kind = _format(content)
    if kind is None:
        raise PhotoError("The file is not a picture.")
    return _open(content, kind).size


@dataclass(frozen=True)
class Box:
    """Which square of a photo the network gets.

    Args:
        size: Its side in (0, 1], as a fraction of the largest one: the photo's shorter side where it is cropped, the
            longer one where it is padded.
        across: From 0, at the left end of the photo, to 1, at its right end.
        down: Likewise from top to bottom.
    """

    size: float = 1.0
    across: float = 0.5
    down: float = 0.5


CENTRE = Box()


def region(width: int, height: int, fit: str = "crop", box: Box = CENTRE) -> tuple[int, int, int]:
    """Where the square lies in a photo of some size: its left edge, its upper edge and its side, in pixels.

    A cropped one lies inside the photo; a padded one may be wider or higher than it, and then begins before it.

    Raises:
        ValueError: `fit` is neither "crop" nor "pad", or the box is not one.
    """
    if fit not in ("crop", "pad"):
        raise ValueError(f"fit must be one of crop, pad, but is {fit!r}.")
    if not (0 < box.size <= 1 and 0 <= box.across <= 1 and 0 <= box.down <= 1):
        raise ValueError(f"A box has a size above 0 and at most 1 and places from 0 to 1, but this is {box}.")
    largest = min(width, height) if fit == "crop" else max(width, height)
    side = max(round(largest * box.size), 1)
    return int((width - side) * box.across), int((height - side) * box.down), side


def square(photo: Image.Image, fit: str = "crop", box: Box = CENTRE) -> Image.Image:
    """The square of a photo that the network sees, at full resolution.

    Args:
        fit: "crop" takes a square inside the photo, the largest at its centre unless `box` says otherwise; "pad" keeps
            everything and adds grey bars.

    Raises:
        ValueError: As `region`.
    """
    left, top, side = region(*photo.size, fit, box)
    within = photo.crop((max(left, 0), max(top, 0), min(left + side, photo.width), min(top + side, photo.height)))
    if within.size == (side, side):
        return within
    board = Image.new("RGB", (side, side), GREY)
    board.paste(within, (max(-left, 0), max(-top, 0)))
    return board


def to_input(photo: Image.Image, size: int = 32, fit: str = "crop", box: Box = CENTRE) -> NDArray[np.uint8]:
    """What the network sees of a photo.

    Resized with Pillow's Lanczos filter, whose support grows with the reduction: no aliasing when shrinking, no blocks
    when enlarging as a box filter would give, and details as crisp as in CIFAR-10's own pictures. A square that already
    has the size keeps every pixel.

    Args:
        photo: Mode RGB.

    Returns:
        (3, size, size) uint8.
    """
    seen = square(photo, fit, box)
    if seen.size != (size, size):
        seen = seen.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.ascontiguousarray(np.asarray(seen, dtype=np.uint8).transpose(2, 0, 1))


def _format(content: bytes) -> str | None:
    for kind, start, signature in _SIGNATURES:
        if content.startswith(signature, start):
            return kind
    # Whose first tag may stand behind a declaration and comments.
    return "SVG" if content.lstrip().startswith(b"<?xml") and b"<svg" in content[:2000] else None


def _listed(formats: tuple[str, ...], joint: str = "and") -> str:
    return f"{', '.join(formats[:-1])} {joint} {formats[-1]}" if len(formats) > 1 else formats[0]


def _check_size(size: tuple[int, int], subject: str, most: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise PhotoError(f"{subject} has no pixels; its size is given as {width} by {height}.")
    if width * height > most:
        raise PhotoError(
            f"{subject} measures {width:,} by {height:,} pixels, more than the {most // 1_000_000} million "
            "that are read; make it smaller and try again."
        )


def _webp_size(content: bytes) -> tuple[int, int]:
    """Read here because Pillow's WebP reader allocates the canvas before it tells the size."""

    def little(start: int, count: int) -> int:
        return int.from_bytes(content[start : start + count], "little")

    if len(content) < 30:
        raise EOFError
    chunk = content[12:16]
    if chunk == b"VP8X":
        return little(24, 3) + 1, little(27, 3) + 1
    if chunk == b"VP8L":
        bits = little(21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return little(26, 2) & 0x3FFF, little(28, 2) & 0x3FFF


def _open(content: bytes, kind: str) -> Image.Image:
    # Not Image.open: it would try other formats, and warn or raise over large pictures without naming their size.
    file = io.BytesIO(content)
    if kind == "PNG":
        return PngImagePlugin.PngImageFile(file)
    if kind == "JPEG":
        return JpegImagePlugin.jpeg_factory(file)
    if kind == "WebP":
        return WebPImagePlugin.WebPImageFile(file)
    return BmpImagePlugin.BmpImageFile(file)


def _plain(picture: Image.Image) -> Image.Image:
    """Decoded, upright, opaque, RGB, at most MAX_SIDE."""
    picture.load()
    orientation = _orientation(picture)
    picture = _reduced(picture)
    if max(picture.size) > MAX_SIDE:
        picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    if picture.mode == "RGBA":
        board = Image.new("RGBA", picture.size, "white")
        board.alpha_composite(picture)
        picture = board
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    if orientation in _UPRIGHT:
        picture = picture.transpose(_UPRIGHT[orientation])
    return picture


def _reduced(picture: Image.Image) -> Image.Image:
    """In plain colours, and a very large picture at a whole fraction of its size.

    That one is worked through in stripes, as a second copy of it in another mode would take hundreds of megabytes.
    """
    if picture.mode == "RGB" and not picture.has_transparency_data:
        return picture
    factor = max(picture.size) // MAX_SIDE  # what is left is still copied twice when it is shrunk to the last pixel
    if factor < 2 and picture.width * picture.height <= STRIPE_PIXELS:
        return _coloured(picture)
    factor = max(factor, 1)
    rows = max(STRIPE_PIXELS // picture.width // factor, 1) * factor
    board: Image.Image | None = None
    for top in range(0, picture.height, rows):
        stripe = _coloured(picture.crop((0, top, picture.width, min(top + rows, picture.height))))
        if factor > 1:
            # Colours of transparent places must not bleed into their neighbours.
            mode = stripe.mode
            stripe = (stripe.convert("RGBa") if mode == "RGBA" else stripe).reduce(factor)
            stripe = stripe.convert(mode) if mode == "RGBA" else stripe
        if board is None:
            board = Image.new(stripe.mode, (stripe.width, -(-picture.height // factor)))
        board.paste(stripe, (0, top // factor))
    assert board is not None
    return board


def _coloured(picture: Image.Image) -> Image.Image:
    """Grey, RGB or RGBA of eight bits."""
    if picture.mode.startswith(("I", "F")):
        return _eight_bits(picture)
    if picture.has_transparency_data:
        key = picture.info.get("transparency")
        if (
            isinstance(key, tuple) and max(key) > 255
        ):  # Pillow keeps the upper byte of 16-bit colours, but not of the key
            picture.info["transparency"] = tuple(value >> 8 for value in key)
        return picture if picture.mode == "RGBA" else picture.convert("RGBA")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _orientation(picture: Image.Image) -> int:
    if not {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"} & picture.info.keys():
        return 1
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # as above; a picture with unreadable EXIF is still a picture
        return 1


def _eight_bits(picture: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits by scaling; Pillow's own conversion clips at 255."""
    values = np.asarray(picture).astype(np.int64).clip(0, 65535)
    grey = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    key = picture.info.get("transparency")
    if key is None:
        return grey
    opaque = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
    return Image.merge("RGBA", (grey, grey, grey, opaque))
