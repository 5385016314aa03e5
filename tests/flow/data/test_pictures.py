"""flow.data.pictures: what every kind of picture file becomes, and which are refused."""

from __future__ import annotations

import io
import os
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from flow.data.datasets import LARGEST_RESIZED, Preprocessing, _resize_part
from flow.data.pictures import MAX_PIXELS, eight_bits, file_problem, read_picture
from vta_config.errors import CalibrationError

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
COLOUR = np.stack([GREY, 255 - GREY, GREY.T], axis=-1)
#: One element of a TIFF's directory: its tag, type (3: 16 bits, 4: 32 bits), count and value.
Entry = tuple[int, int, int, int]


def pixels(path: Path) -> NDArray[Any]:
    return np.asarray(read_picture(path))


def png(width: int, height: int, *, bits: int = 8, colour: int = 0, rows: bytes = b"") -> bytes:
    """Write a PNG file; `rows` are filtered already."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


def tiff(values: NDArray[Any], *, photometric: int = 1, bits: int = 0, kind: int = 1) -> bytes:
    """Write an uncompressed TIFF file of one strip, with the tags as given."""
    data = values.tobytes()
    height, width = values.shape
    entries: list[Entry] = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, bits or 8 * values.dtype.itemsize),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
        (339, 3, 1, kind),
    ]
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


# ---- numbers -------------------------------------------------------------------------------------
def test_16_bit_grey_keeps_its_upper_byte(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "a.png")
    Image.fromarray(deep).save(tmp_path / "a.tif")
    (tmp_path / "a.pgm").write_bytes(b"P5 8 8 65535\n" + deep.astype(">u2").tobytes())
    (tmp_path / "b.tif").write_bytes(tiff(deep))
    for file in tmp_path.iterdir():
        np.testing.assert_array_equal(pixels(file), GREY)
    for mode, kind in (("I;16", "<u2"), ("I;16B", ">u2")):
        image = Image.frombytes(mode, (8, 8), deep.astype(kind).tobytes())
        np.testing.assert_array_equal(np.asarray(eight_bits(image, "x")), GREY)


def test_dark_16_bit_grey_stays_dark(tmp_path: Path) -> None:
    dark = np.full((8, 8), 200, np.uint16)
    Image.fromarray(dark).save(tmp_path / "a.png")
    (tmp_path / "a.pgm").write_bytes(b"P5 8 8 65535\n" + dark.astype(">u2").tobytes())
    for file in tmp_path.iterdir():
        assert not pixels(file).any()


def test_pgm_of_10_bits_is_scaled_by_its_largest_value(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P2 3 1 1023\n0 512 1023\n")
    assert pixels(tmp_path / "a.pgm").tolist() == [[0, 128, 255]]


def test_16_bit_colour_keeps_its_upper_bytes(tmp_path: Path) -> None:
    deep = COLOUR.astype(">u2") * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    (tmp_path / "a.png").write_bytes(png(8, 8, bits=16, colour=2, rows=rows))
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), COLOUR)


def test_12_bit_tiff(tmp_path: Path) -> None:
    # Two values, 0x800 and 0xFFF, in three bytes.
    packed = np.frombuffer(b"\x80\x0f\xff", np.uint8).reshape(1, 3)
    data = bytearray(tiff(packed, bits=12))
    width = data.index(struct.pack("<HHII", 256, 4, 1, 3))
    data[width : width + 12] = struct.pack("<HHII", 256, 4, 1, 2)
    (tmp_path / "a.tif").write_bytes(data)
    assert pixels(tmp_path / "a.tif").tolist() == [[128, 255]]


@pytest.mark.parametrize(
    "values",
    [
        GREY.astype(np.float32) / np.float32(255),
        GREY.astype(np.float32),
        GREY.astype(np.float32) + np.float32(0.4),
        np.clip(GREY.astype(np.float32) / 255 - np.float32(0.001), -0.001, 1),
    ],
    ids=["0 to 1", "0 to 255", "fractions", "half a level below"],
)
def test_floats_in_known_ranges(values: NDArray[np.float32], tmp_path: Path) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif"), GREY)


def test_float_of_either_end(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)).save(tmp_path / "a.tif")
    assert pixels(tmp_path / "a.tif").tolist() == [[0, 128, 255]]


@pytest.mark.parametrize(
    ("values", "got"),
    [
        ([0, 300.5], r"0 to 300\.5"),
        ([-1, 1], "-1 to 1"),
        ([0, np.inf], "0 to inf"),
        ([0.5, np.nan], "nan to nan"),
    ],
)
def test_floats_in_other_ranges(values: list[float], got: str, tmp_path: Path) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a.tif")
    sentence = (
        rf"a\.tif: must have float pixels in \[0, 1\] or \[0, 255\], got {got}; scale it to 8"
    )
    with pytest.raises(CalibrationError, match=sentence):
        read_picture(tmp_path / "a.tif")


def test_32_bit_integers(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.int32)).save(tmp_path / "8.tif")
    Image.fromarray(GREY.astype(np.int32) * 257).save(tmp_path / "16.tif")
    for file in tmp_path.iterdir():
        np.testing.assert_array_equal(pixels(file), GREY)


@pytest.mark.parametrize(("value", "got"), [(65536, "0 to 65536"), (-1, "-1 to 0")])
def test_32_bit_integers_in_other_ranges(value: int, got: str, tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, value]], np.int32)).save(tmp_path / "a.tif")
    sentence = rf"must have 32-bit integer pixels in \[0, 255\] or \[0, 65535\], got {got}; scale"
    with pytest.raises(CalibrationError, match=sentence):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "values", [GREY, GREY.astype(np.uint16) * 257, GREY.astype(np.float32)], ids=["8", "16", "f"]
)
def test_tiff_in_which_white_is_zero(values: NDArray[Any], tmp_path: Path) -> None:
    kind = 3 if values.dtype == np.float32 else 1
    (tmp_path / "a.tif").write_bytes(tiff(values, photometric=0, kind=kind))
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif"), 255 - GREY)


def test_deep_picture_of_several_pieces() -> None:
    ramp = (np.arange(5000, dtype=np.float32) / 4999)[np.newaxis]
    expected = np.floor(ramp * 255 + 0.5)
    for values in (ramp, ramp.T):
        out = np.asarray(eight_bits(Image.fromarray(np.ascontiguousarray(values)), "x"))
        np.testing.assert_array_equal(out.reshape(-1), expected.reshape(-1))


# ---- colours -------------------------------------------------------------------------------------
def test_one_bit_and_palette(tmp_path: Path) -> None:
    Image.fromarray(GREY > 100).save(tmp_path / "1.png")
    np.testing.assert_array_equal(pixels(tmp_path / "1.png"), np.where(GREY > 100, 255, 0))
    Image.fromarray(COLOUR).quantize(64).save(tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as image:
        assert image.mode == "P"
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(pixels(tmp_path / "p.png"), expected)


def test_what_is_transparent_shows_white(tmp_path: Path) -> None:
    alpha = np.array([[0, 255, 51]], np.uint8)
    colour = np.array([[[9, 9, 9], [10, 20, 30], [0, 100, 255]]], np.uint8)
    Image.fromarray(np.dstack([colour, alpha])).save(tmp_path / "rgba.png")
    Image.fromarray(np.dstack([colour, alpha])).save(tmp_path / "rgba.webp", lossless=True)
    expected = [[255, 255, 255], [10, 20, 30], [204, 224, 255]]  # 0.2 c + 0.8 * 255
    for file in tmp_path.iterdir():
        assert pixels(file).tolist() == [expected]
    Image.fromarray(np.dstack([colour[..., 1], alpha])).save(tmp_path / "la.png")
    assert pixels(tmp_path / "la.png").tolist() == [[255, 20, 224]]


def test_transparent_colour_shows_white(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    palette.putpalette([1, 2, 3, 4, 5, 6, 7, 8, 9])
    palette.save(tmp_path / "p.png", transparency=1)
    palette.save(tmp_path / "p.gif", transparency=1)
    palette.save(tmp_path / "bytes.png", transparency=b"\xff\x00\xff")
    for file in tmp_path.iterdir():
        assert pixels(file).tolist() == [[[1, 2, 3], [255, 255, 255], [7, 8, 9]]]
    rgb = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    Image.fromarray(rgb).save(tmp_path / "rgb.png", transparency=(4, 5, 6))
    assert pixels(tmp_path / "rgb.png").tolist() == [[[1, 2, 3], [255, 255, 255]]]
    Image.fromarray(rgb[..., 0]).save(tmp_path / "l.png", transparency=1)
    assert pixels(tmp_path / "l.png").tolist() == [[255, 4]]
    Image.fromarray(rgb[..., 0].astype(np.uint16) * 256).save(tmp_path / "d.png", transparency=256)
    assert pixels(tmp_path / "d.png").tolist() == [[255, 4]]


def test_palette_with_opacity_of_its_own() -> None:
    image = Image.frombytes("P", (2, 1), b"\0\1")
    image.putpalette([1, 2, 3, 255, 4, 5, 6, 0], "RGBA")
    assert np.asarray(eight_bits(image, "x")).tolist() == [[[1, 2, 3], [255, 255, 255]]]


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_colour_spaces_become_rgb(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(COLOUR).convert(mode)
    image.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif"), np.asarray(image.convert("RGB")))
    assert abs(pixels(tmp_path / "a.tif").astype(int) - COLOUR).max() <= 3


def test_colour_space_without_a_conversion(tmp_path: Path) -> None:
    Image.new("LAB", (4, 4)).save(tmp_path / "a.tif")
    sentence = r"a\.tif: must be grey, RGB, CMYK or YCbCr, got LAB; convert it to RGB"
    with pytest.raises(CalibrationError, match=sentence):
        read_picture(tmp_path / "a.tif")
    with pytest.raises(CalibrationError, match=r"image: must be grey, RGB, CMYK or YCbCr, got HSV"):
        Preprocessing(height=4, width=4, resize=4).pixels(Image.new("HSV", (4, 4)))


# ---- frames and orientation ----------------------------------------------------------------------
@pytest.mark.parametrize("suffix", ["gif", "png", "tif", "webp"])
def test_first_frame_counts(suffix: str, tmp_path: Path) -> None:
    first, second = Image.new("RGB", (4, 4), (200, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 200))
    options = {"lossless": True} if suffix == "webp" else {}
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second], **options)
    with Image.open(tmp_path / f"a.{suffix}") as image:
        assert getattr(image, "n_frames", 1) == 2
    assert pixels(tmp_path / f"a.{suffix}")[2, 2].tolist() == [200, 0, 0]


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "lzw.tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 10))
def test_exif_orientation_is_applied(orientation: int, kind: str, tmp_path: Path) -> None:
    if (kind, orientation) == ("lzw.tif", 9):
        pytest.skip("libtiff does not write an orientation that does not exist")
    upright = np.zeros((16, 32), np.uint8)
    upright[:8, :8], upright[:8, 24:], upright[8:, :8] = 250, 150, 80
    stored: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, 3),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    kept = stored.get(orientation, np.array)(upright)
    options = {"webp": {"lossless": True}, "lzw.tif": {"compression": "tiff_lzw"}}.get(kind, {})
    file = tmp_path / f"a.{kind}"
    Image.fromarray(np.ascontiguousarray(kept)).save(file, exif=exif, **options)
    out = np.asarray(read_picture(file).convert("L"))
    assert out.shape == (16, 32)
    assert abs(out.astype(int) - upright).max() <= 4


def test_damaged_exif_is_ignored(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), GREY)


# ---- sizes ---------------------------------------------------------------------------------------
IMAGENET = Preprocessing(height=224, width=224, resize=256)


@pytest.mark.parametrize("size", [(65000, 1), (1, 65000), (3, 40000), (MAX_PIXELS, 1)])
def test_long_pictures_are_cropped_before_they_are_resized(size: tuple[int, int]) -> None:
    # The crop shows the middle: less than one source pixel across, and its neighbours.
    image = Image.new("L", size, 10)
    middle = size[0] // 2, size[1] // 2
    image.putpixel(middle, 90)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    out = IMAGENET.pixels(image)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 4 * MAX_PIXELS // 1024 + 100_000  # the RGB form, and little else
    # The bilinear filter is a tent around the middle of that pixel.
    place = (np.arange(224) + 0.5 - 112) / 256 + (max(size) / 2) % 1
    along = 10 + 80 * np.clip(1 - abs(place - 0.5), 0, 1)
    profile = out[112, :, 0] if size[0] > size[1] else out[:, 112, 0]
    if min(size) == 1:
        assert abs(profile - along).max() <= 1
    assert out.shape == (224, 224, 3)


@pytest.mark.parametrize("size", [(300, 200), (40, 5000), (5000, 40), (224, 224), (7, 3)])
def test_part_of_a_resized_picture_equals_the_whole(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
    short = min(size)
    resized = (int(256 * size[0] / short), int(256 * size[1] / short))
    left, top = round((resized[0] - 224) / 2), round((resized[1] - 224) / 2)
    for region in ((left, top, left + 224, top + 224), (-5, -7, 20, 9)):
        whole = np.asarray(image.resize(resized, Image.Resampling.BILINEAR).crop(region))
        part, moved = _resize_part(image, resized, region)
        difference = abs(np.asarray(part.crop(moved)).astype(int) - whole)
        assert difference.max() <= 1
    assert resized[0] * resized[1] <= LARGEST_RESIZED


def test_size_is_checked_before_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(8193, 8192))
    (tmp_path / "b.png").write_bytes(png(30000, 30000, bits=1))
    (tmp_path / "c.png").write_bytes(png(10000, 10000))
    limit = r"must have at most 67,108,864 pixels, got "
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CalibrationError, match=limit + r"8193 × 8192; scale it down"):
            read_picture(tmp_path / "a.png")
        with pytest.raises(CalibrationError, match=limit + r"more than 178,956,970; scale it"):
            read_picture(tmp_path / "b.png")
        with pytest.raises(CalibrationError, match=limit + r"10000 × 10000"):
            read_picture(tmp_path / "c.png")


def test_picture_without_pixels() -> None:
    with pytest.raises(
        CalibrationError, match=r"image: must have at least one pixel, got 0 × 5; replace or"
    ):
        IMAGENET.pixels(Image.new("RGB", (0, 5)))


def test_pictures_that_take_twice_the_memory_may_have_half_the_pixels(tmp_path: Path) -> None:
    (tmp_path / "rgba.png").write_bytes(png(8192, 4097, colour=6))
    Image.new("L", (8192, 4097)).save(tmp_path / "progressive.jpg", progressive=True)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("L", (8192, 4097)).save(tmp_path / "turned.jpg", exif=exif)
    for file in tmp_path.iterdir():
        with pytest.raises(
            CalibrationError, match=r"must have at most 33,554,432 pixels, got 8192 × 4097; scale"
        ):
            read_picture(file)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "progressive", "turned", "cmyk", "la", "rgba", "f"])
def test_largest_pictures_take_less_than_half_a_gibibyte(kind: str, tmp_path: Path) -> None:
    width, height = 8192, 8192 if kind in ("plain", "f") else 4096
    file = tmp_path / f"a.{'tif' if kind == 'f' else 'png' if kind in ('la', 'rgba') else 'jpg'}"
    exif = Image.Exif()
    exif[0x0112] = 6 if kind == "turned" else 1
    options: dict[str, Any] = {"exif": exif} if file.suffix == ".jpg" else {}
    if kind == "progressive":
        options |= {"progressive": True, "subsampling": 0}
    mode = {"cmyk": "CMYK", "la": "LA", "rgba": "RGBA", "f": "F"}.get(kind, "RGB")
    Image.new(mode, (width, height)).save(file, **options)
    program = """
import re, sys
from pathlib import Path
from flow.data.datasets import FileSource, Preprocessing
def peak_mib():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
before = peak_mib()
Preprocessing(height=224, width=224, resize=256)(FileSource((Path(sys.argv[1]),)).load(0))
print(peak_mib() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 440, done.stdout


# ---- files that are no pictures ------------------------------------------------------------------
def test_truncated_pictures(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "gif", "tif", "bmp", "webp"):
        file = tmp_path / f"a.{suffix}"
        Image.fromarray(np.tile(COLOUR, (8, 8, 1))).save(file)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(CalibrationError, match=r"must be a readable image, got .*; replace or"):
            read_picture(file)
        file.write_bytes(b"")
        with pytest.raises(CalibrationError, match=r"got truncated or damaged \(no BMP, GIF, J"):
            read_picture(file)


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "tiff", "lzw", "bmp", "webp", "ppm"])
def test_damaged_pictures_end_in_a_sentence(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    if kind == "lzw":
        Image.fromarray(COLOUR).save(stream, "tiff", compression="tiff_lzw")
    else:
        Image.fromarray(COLOUR).save(stream, kind)
    refused = 0
    for _ in range(150):
        data = bytearray(stream.getvalue())
        for place in rng.integers(0, min(len(data), 200), 3):
            data[place] = rng.integers(0, 256)
        (tmp_path / "a").write_bytes(data)
        try:
            assert read_picture(tmp_path / "a").mode in ("L", "RGB")
        except CalibrationError:
            refused += 1
    assert refused > 0
    if kind != "lzw":  # libtiff has a voice of its own
        assert capfd.readouterr() == ("", "")


def test_postscript_is_not_run(tmp_path: Path) -> None:
    text = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"
    (tmp_path / "a.png").write_text(text)
    with pytest.raises(CalibrationError, match=r"got truncated or damaged \(no BMP, GIF, JPE"):
        read_picture(tmp_path / "a.png")


def test_what_is_no_ordinary_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.png"))
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "dangling.png").symlink_to("nowhere")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    expected = {
        "pipe.png": "a pipe, a socket or a device",
        "s.png": "a pipe, a socket or a device",
        "loop.png": "Too many levels of symbolic links",
        "dangling.png": "a link to nothing",
        "folder.png": "a folder",
        "missing.png": "no such file",
        "file/a.png": "no such file",
        "a\0b.png": "a name with a zero byte",
        "n" * 5000: "File name too long",
    }
    for name, problem in expected.items():
        assert file_problem(tmp_path / name) == problem
        with pytest.raises(CalibrationError, match=rf"must be a readable image, got {problem}; re"):
            read_picture(tmp_path / name)
    assert file_problem(tmp_path / "file") is None


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """Yield a folder, and run as a user whom permissions bind."""
    with tempfile.TemporaryDirectory() as name:
        user = os.geteuid()
        if user == 0:
            os.chown(name, 65534, -1)
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            os.seteuid(user)


def test_file_without_permission(unprivileged: Path) -> None:
    (unprivileged / "a.png").write_bytes(png(1, 1, rows=b"\0\0"))
    (unprivileged / "a.png").chmod(0)
    with pytest.raises(CalibrationError, match=r"must be a readable image, got Permission denied;"):
        read_picture(unprivileged / "a.png")
