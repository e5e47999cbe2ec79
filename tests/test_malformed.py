"""Five hundred files that are no good photo, or an unusual one: each is read or refused with one clear sentence."""

from __future__ import annotations

import io
import json
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifar_core.photos import MAX_SIDE, PhotoError, read_photo
from tests.conftest import ROOT

MOST_MEMORY = 400
"""Megabytes above idle."""


def picture(mode: str = "RGB", width: int = 90, height: int = 60, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, depth: int, colour: int, rows: bytes | None, *extra: bytes) -> bytes:
    """A PNG file as it is written; without rows its pixels are missing."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    content = b"" if rows is None else chunk(b"IDAT", rows)
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + content + chunk(b"IEND", b"")


def blank(width: int, height: int, bits: int) -> bytes:
    """Compressed rows of zeros: a few kilobytes for many megabytes."""
    packer, line = zlib.compressobj(9), bytes(1 + width * bits // 8)
    return b"".join([*(packer.compress(line) for _ in range(height)), packer.flush()])


def with_exif(size: int) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "x" * size
    return saved(picture(), "JPEG", exif=exif)


def campaign() -> Iterator[tuple[str, bytes]]:
    """Kind and content of five hundred files, always the same; the name of a file decides nothing."""
    chance = random.Random(7)
    whole = [saved(picture(seed=i), kind) for i, kind in enumerate(("JPEG", "PNG", "WEBP"))]
    for number in range(131):
        content = whole[number % 3]
        yield "truncated", content[: chance.randrange(1, len(content))]
    for number in range(120):
        content = bytearray(whole[number % 3])
        for _ in range(chance.choice((1, 4, 40))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        yield "bytes changed", bytes(content)
    others = [saved(picture(), kind) for kind in ("GIF", "TIFF", "BMP", "ICO", "PPM")]
    words = [b"%PDF-1.7\n", b"<svg xmlns='x'/>", b"PK\x03\x04", b"#!/bin/sh\n", b"<html></html>", b"{}", "é".encode()]
    for number in range(60):
        yield "wrong extension", [*others, *words][number % 12] + bytes(number // 12)
    for number in range(40):
        yield (
            "zero and random bytes",
            [b"", bytes(number), chance.randbytes(200), b"\xff\xd8\xff" + bytes(number)][number % 4],
        )
    for number in range(40):
        side = (20_000, 60_000, 2**31 - 1, 7_001)[number % 4]
        vp8x = b"VP8X" + struct.pack("<I", 10) + bytes(4) + 2 * (min(side, 2**24) - 1).to_bytes(3, "little")
        yield (
            "bomb",
            [
                png(side, side, 8, 2, zlib.compress(bytes(100))),
                b"RIFF" + struct.pack("<I", 22 + number) + b"WEBP" + vp8x + bytes(number),
                png(9, 9, 8, 2, None, *[chunk(b"zTXt", b"t\0\0" + zlib.compress(bytes(9_000_000)))] * 3),
                png(
                    9,
                    9,
                    8,
                    2,
                    zlib.compress(bytes(5_000_000)),
                    chunk(b"iCCP", b"c\0\0" + zlib.compress(bytes(9_000_000))),
                ),
            ][(number + number // 4) % 4],
        )
    frames = [picture(seed=i) for i in range(6)]
    for number in range(24):
        kind = ("PNG", "WEBP", "GIF")[number % 3]
        yield "animated", saved(frames[0], kind, save_all=True, append_images=frames[1 : 2 + number // 4])
    for number in range(16):
        yield "CMYK", saved(picture("CMYK", seed=number), "JPEG", quality=50 + number)
    for number in range(16):
        deep = np.random.default_rng(number).integers(0, 65536, (20, 30), dtype=np.uint16)
        yield (
            "16 bits",
            [
                saved(Image.fromarray(deep), "PNG"),
                png(8, 8, 16, 2, zlib.compress(bytes(1 + 8 * 6) * 8)),
                png(8, 8, 16, 6, zlib.compress(bytes(1 + 8 * 8) * 8)),
                png(8, 8, 16, 4, zlib.compress(bytes(1 + 8 * 4) * 8)),
            ][number % 4],
        )
    for number in range(20):
        flat = picture("RGB", seed=number).quantize(2 + 12 * number)
        yield "palette", saved(flat, "PNG", transparency=number % 2) if number % 3 else saved(flat, "PNG")
    for number in range(24):
        bad = b"Exif\0\0" + chance.randbytes(60_000)
        yield (
            "huge EXIF",
            [
                with_exif(60_000),
                saved(picture(), "JPEG", exif=bad),
                saved(picture(), "PNG", exif=b"MM\0*" + chance.randbytes(900_000)),
                saved(picture(), "WEBP", exif=b"Exif\0\0II*\0" + chance.randbytes(900_000)),
            ][number % 4],
        )
    for number, (bits, depth, colour) in enumerate([(8, 8, 0), (16, 16, 0), (24, 8, 2), (32, 8, 6), (16, 8, 4)]):
        width, height = (7071, 7071) if number % 2 else (49_000, 1_000)
        yield "as large as allowed", png(width, height, depth, colour, blank(width, height, bits))
    for mode, size, progressive in (
        ("RGB", (7071, 7071), False),
        ("RGB", (7071, 7071), True),
        ("CMYK", (6000, 5200), True),
        ("CMYK", (7071, 7071), True),
    ):
        yield "large JPEG", saved(Image.new(mode, size), "JPEG", progressive=progressive, quality=20)


def met(content: bytes, name: str = "holiday.jpg") -> str | None:
    """The sentence a file is refused with; None where it is read as an upright RGB picture of a fair size."""
    try:
        photo = read_photo(content, name)
    except PhotoError as error:
        return str(error)
    assert photo.mode == "RGB"
    assert 1 <= max(photo.size) <= MAX_SIDE
    return None


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read as Linux tells it")
def test_each_of_five_hundred_files_is_read_or_refused_with_one_clear_sentence_in_little_memory(tmp_path):
    """In a process of its own, which makes none of the files, so that its memory is the reader's alone."""
    kinds = []
    for number, (kind, content) in enumerate(campaign()):
        (tmp_path / f"{number:03}").write_bytes(content)
        kinds.append(kind)
    assert len(kinds) == 500
    (tmp_path / "kinds.json").write_text(json.dumps(kinds))
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_malformed", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    told = json.loads(done.stdout)
    assert [kind for kind, _ in told["met"]] == kinds
    assert len(set(kinds)) >= 11
    assert "Traceback" not in done.stderr
    for kind, sentence in told["met"]:
        if sentence is not None:
            assert sentence.startswith("holiday.jpg "), (kind, sentence)
            assert sentence.endswith("."), (kind, sentence)
            assert "\n" not in sentence, (kind, sentence)
            assert len(sentence) < 160, (kind, sentence)
            assert not any(word in sentence for word in ("Error", "Traceback", "0x", "None")), (kind, sentence)
    for kind in ("CMYK", "16 bits", "palette", "huge EXIF"):
        assert {sentence for other, sentence in told["met"] if other == kind} == {None}, kind
    for kind in ("truncated", "wrong extension", "bomb"):
        assert any(sentence for other, sentence in told["met"] if other == kind), kind
    assert told["megabytes"] < MOST_MEMORY, told["worst"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x00\x00\x01\x00", "an icon (ICO) file"),
        (b"<svg xmlns='x'/>", "an SVG file"),
        (b"\0\0\0\x20ftypavif", "an AVIF file"),
        (b"%PDF-1.7\n", "a PDF file"),
        (b"GIF89a", "a GIF file"),
    ],
)
def test_the_sentence_names_another_format_in_good_english(content, kind):
    assert f" is {kind}; " in str(met(content))


@pytest.mark.parametrize("name", ["photo.png", "photo", "photo.exe", "../../etc/passwd"])
def test_the_name_decides_nothing(name):
    assert met(saved(picture(), "JPEG"), name) is None


def watch(folder: Path) -> None:
    """Read all files and print what was met with, and the peak of memory above that of an idle process.

    Not `ru_maxrss`: a child starts with the peak of its parent there, which hides all that stays below it.
    """

    def megabytes(field: str) -> float:
        status = Path("/proc/self/status").read_text()
        return int(status.split(f"{field}:")[1].split()[0]) / 1024

    read_photo(saved(picture(), "JPEG"))
    idle = megabytes("VmRSS")
    told: list[tuple[str, str | None]] = []
    worst: dict[str, float] = {}
    for number, kind in enumerate(json.loads((folder / "kinds.json").read_text())):
        content = (folder / f"{number:03}").read_bytes()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
        told.append((kind, met(content)))
        worst[kind] = max(worst.get(kind, 0.0), megabytes("VmHWM") - idle)
    print(json.dumps({"met": told, "megabytes": max(worst.values()), "worst": worst}))


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
