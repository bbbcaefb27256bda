"""Image files of 16 bits a channel, of which Pillow would keep the upper 8 without a word."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from workers.data import DataError
from workers.data.pictures import header_size, read_scaled, read_square

SIDE = 4


def png(colour: int, channels: int) -> bytes:
    """A PNG of 16 bits a channel; `colour` is its type: 2 RGB, 4 grey with alpha, 6 RGB with alpha."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, 16, colour, 0, 0, 0)
    rows = np.arange(SIDE * SIDE * channels).reshape(SIDE, -1).astype(">u2")
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff() -> bytes:
    """An RGB TIFF of 16 bits a channel, uncompressed, in one strip."""
    pixels = np.arange(SIDE * SIDE * 3).astype("<u2").tobytes()
    start = 8 + len(pixels)
    bits, entries = start + 2 + 9 * 12 + 4, []
    fields = [(256, 3, 1, SIDE), (257, 3, 1, SIDE), (258, 3, 3, bits), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 8)]
    for tag, kind, count, value in [*fields, (277, 3, 1, 3), (278, 3, 1, SIDE), (279, 4, 1, len(pixels))]:
        entries.append(struct.pack("<HHII", tag, kind, count, value))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", start) + pixels + directory + struct.pack("<HHH", 16, 16, 16)


def ppm(largest: int) -> bytes:
    """An RGB PPM whose white is `largest`: two bytes a channel where one does not hold it."""
    wide = ">u2" if largest > 255 else "u1"
    return b"P6\n4 4\n%d\n" % largest + np.full(SIDE * SIDE * 3, largest).astype(wide).tobytes()


WIDE = {
    "RGB.png": png(2, 3),
    "grey with alpha.png": png(4, 2),
    "RGB with alpha.png": png(6, 4),
    "RGB.tiff": tiff(),
    "binary.ppm": ppm(4095),
    "text.ppm": b"P3\n4 4\n65535\n" + b"300 " * (SIDE * SIDE * 3),
}


@pytest.mark.parametrize("name", WIDE)
def test_sixteen_bits_a_channel_are_refused_in_colour_too(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(WIDE[name])
    said = f"^{path}: pixels of 16 bits a channel; only 8 can be used: convert it$"
    with pytest.raises(DataError, match=said):
        header_size(path)
    with pytest.raises(DataError, match=said):
        read_square(path, None)
    with pytest.raises(DataError, match=said):
        read_scaled(path, 2)


@pytest.mark.parametrize("largest", [15, 255])
def test_fewer_bits_are_spread_over_eight(largest: int, tmp_path: Path) -> None:
    path = tmp_path / "white.ppm"
    path.write_bytes(ppm(largest))
    assert header_size(path) == (SIDE, SIDE)
    pixels, grey = read_square(path, None)
    assert (int(pixels.min()), grey) == (255, False)
