"""Image files: decoded within limits, turned upright, brought to 8 bits, grey or RGB.

What a pixel means is decided here, once:

- Of several frames or pages the first counts. EXIF rotation is applied.
- What is transparent shows white behind it, as a viewer does; the colour that a file keeps below
  transparent pixels has no effect.
- 16-bit images keep their upper byte. 32-bit integers are 8-bit values when none is above 255,
  else 16-bit values. Floats are in [0, 1] or, when one is above 1, in [0, 255].
- CMYK and YCbCr become RGB by Pillow's formulas; colour profiles have no effect.
"""

from __future__ import annotations

import logging
import math
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vta_config.errors import CalibrationError

#: A decoded image takes up to 4 bytes a pixel: a quarter of a GiB.
MAX_PIXELS: Final = 1 << 26
#: The limit of those that take twice the memory.
MAX_COSTLY_PIXELS: Final = MAX_PIXELS // 2
#: Kinds of file that are read, by what they hold, whatever their name. Pillow knows more, among
#: them one (EPS) that it hands to another program.
FORMATS: Final = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
#: Formats whose grey images of more than 8 bits have values of 16 bits, as Pillow reads them.
_DEEP_FORMATS: Final = frozenset({"PNG", "PPM"})
#: Two of the answers of `file_problem`.
FOLDER: Final = "a folder"
MISSING: Final = "no such file"
_ORIENTATION: Final = 0x0112
_BITS_PER_SAMPLE: Final = 258
_PHOTOMETRIC: Final = 262
_WHITE_IS_ZERO: Final = 0
#: What turns an image upright, by its EXIF orientation (EXIF 2.32, tag 0x0112).
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TILE_PIXELS: Final = 2048

# Without a handler of its own, Python would print what Pillow logs.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def read_picture(path: Path) -> Image.Image:
    """Decode a file; return an upright image of mode ``L`` or ``RGB``.

    Raises
    ------
    CalibrationError
        When the file is not a readable image, or has too many pixels.
    """
    problem = file_problem(path)
    if problem is not None:
        raise _unreadable(path, problem)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own about odd files, printed otherwise
        try:
            # Given a name, Pillow maps the file into memory: it then arranges the pixels of a
            # rotated TIFF wrongly, and a file cut meanwhile ends the process.
            with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
                _check_pixels(path, image)
                image.load()
                return _upright(eight_bits(image, str(path)), _orientation(image))
        except CalibrationError:
            raise
        except Image.DecompressionBombError:
            known = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # where Pillow itself stops
            raise _too_large(path, f"more than {known:,}", MAX_PIXELS) from None
        except UnidentifiedImageError:
            kinds = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
            raise _unreadable(path, f"truncated or damaged (no {kinds})") from None
        except PermissionError as error:
            raise _unreadable(path, error.strerror or "no permission") from None
        # Damaged files leave Pillow by exceptions of many kinds (struct.error, KeyError, ...).
        except Exception as error:
            raise _unreadable(
                path, f"truncated or damaged ({error or type(error).__name__})"
            ) from None


def file_problem(path: Path) -> str | None:
    """Say what keeps `path` from being an ordinary file; None when nothing does."""
    try:
        mode = path.stat().st_mode
    except ValueError:
        return "a name with a zero byte"
    except (FileNotFoundError, NotADirectoryError):
        return "a link to nothing" if path.is_symlink() else MISSING
    except OSError as error:  # a name too long, links in a circle, a folder without permission
        return error.strerror or str(error)
    if stat.S_ISREG(mode):
        return None
    if stat.S_ISDIR(mode):
        return FOLDER
    return "a pipe, a socket or a device"


def eight_bits(image: Image.Image, where: str) -> Image.Image:
    """Bring a decoded image to mode ``L`` or ``RGB``; see the module's docstring.

    Parameters
    ----------
    image : Image
        An image of any mode.
    where : str
        What an error calls it.

    Raises
    ------
    CalibrationError
        When its mode is another colour space, its values are in no known range, or it is empty.
    """
    if not all(image.size):
        raise CalibrationError(
            where,
            "must have at least one pixel",
            got=f"{image.width} × {image.height}",
            hint="replace or remove it",
        )
    mode = image.mode
    if mode.startswith("I;16"):
        return Image.fromarray(_upper_byte(image))
    if mode in ("I", "F"):
        return Image.fromarray(_ranged(image, where))
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _over_white(image)
    if mode == "P" and image.palette is not None and image.palette.mode.endswith("A"):
        return _over_white(image)
    if mode in ("L", "RGB"):
        return image
    if mode in ("1", "P", "RGBX", "CMYK", "YCbCr"):
        return image.convert("L" if mode == "1" else "RGB")
    raise CalibrationError(
        where, "must be grey, RGB, CMYK or YCbCr", got=mode, hint="convert it to RGB"
    )


# ---- limits -------------------------------------------------------------------------------------
def _check_pixels(path: Path, image: Image.Image) -> None:
    """Refuse an image that is too large, before it is decoded."""
    limit = MAX_COSTLY_PIXELS if _is_costly(image) else MAX_PIXELS
    if math.prod(image.size) > limit:
        raise _too_large(path, f"{image.width} × {image.height}", limit)


def _is_costly(image: Image.Image) -> bool:
    """Tell whether decoding holds a second form of the image beside the first.

    That is another colour space, an upright copy, or all coefficients of a progressive JPEG.
    """
    if image.mode not in ("1", "L", "P", "RGB", "I", "F") and not image.mode.startswith("I;16"):
        return True
    if image.info.keys() & {"transparency", "progressive", "progression"}:
        return True
    return "exif" in image.info and _orientation(image) in _UPRIGHT


def _too_large(path: Path, got: str, limit: int) -> CalibrationError:
    return CalibrationError(
        str(path), f"must have at most {limit:,} pixels", got=got, hint="scale it down"
    )


def _unreadable(path: Path, problem: str) -> CalibrationError:
    return CalibrationError(
        str(path), "must be a readable image", got=problem, hint="replace or remove it"
    )


# ---- orientation --------------------------------------------------------------------------------
def _orientation(image: Image.Image) -> object:
    """Return the EXIF orientation of a decoded image.

    A TIFF has none by now: Pillow turns it while it decodes it, and removes the tag.
    """
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # damaged EXIF data: viewers show the image all the same
        return None


def _upright(image: Image.Image, orientation: object) -> Image.Image:
    """Turn an image as its EXIF orientation says; 1 and what EXIF does not know: not at all."""
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


# ---- transparency -------------------------------------------------------------------------------
def _over_white(image: Image.Image) -> Image.Image:
    """Lay an image with transparent pixels over white."""
    grey = image.mode in ("1", "L", "LA", "La")
    mode = "LA" if grey else "RGBA"
    if image.mode != mode:
        image = image.convert(mode)
    alpha = image.getchannel("A")
    white = Image.new("L" if grey else "RGB", image.size, "white")
    white.paste(image.getchannel("L") if grey else image, mask=alpha)
    return white


# ---- deep images ------------------------------------------------------------------------------
def _tiles(image: Image.Image) -> Iterator[tuple[tuple[slice, slice], NDArray[Any]]]:
    """Yield pieces of an image and their places, so that no copy of all of it is made."""
    for top in range(0, image.height, _TILE_PIXELS):
        bottom = min(image.height, top + _TILE_PIXELS)
        for left in range(0, image.width, _TILE_PIXELS):
            right = min(image.width, left + _TILE_PIXELS)
            tile = np.asarray(image.crop((left, top, right, bottom)))
            yield (slice(top, bottom), slice(left, right)), tile


def _upper_byte(image: Image.Image) -> NDArray[np.uint8]:
    """Return the upper byte of a 16-bit grey image (of 12-bit values where a TIFF says so)."""
    bits = _tiff_tag(image, _BITS_PER_SAMPLE)
    shift = 4 if bits == (12,) else 8
    pixels = np.empty((image.height, image.width), np.uint8)
    transparent = image.info.get("transparency")
    for place, tile in _tiles(image):
        pixels[place] = np.minimum(tile >> shift, 255)
        if isinstance(transparent, int):
            pixels[place][tile == transparent] = 255
    return _black_is_zero(image, pixels)


def _ranged(image: Image.Image, where: str) -> NDArray[np.uint8]:
    """Return the 8-bit form of an image of 32-bit integers or floats.

    Raises
    ------
    CalibrationError
        When its values are in no known range.
    """
    spans = [(float(tile.min()), float(tile.max())) for _, tile in _tiles(image)]
    lo, hi = float(np.min([lo for lo, _ in spans])), float(np.max([hi for _, hi in spans]))
    floats = image.mode == "F"
    units = (1, 255) if floats else (65535,) if image.format in _DEEP_FORMATS else (255, 65535)
    # Half a level beyond either end is what resampling leaves; it is clipped.
    slack = 0.5 / 255 if floats else 0.0
    unit = next((u for u in units if hi <= u * (1 + slack)), None)
    if not math.isfinite(lo + hi) or unit is None or lo < -unit * slack:
        ranges = "[0, 1] or [0, 255]" if floats else "[0, 255] or [0, 65535]"
        raise CalibrationError(
            where,
            f"must have {'float' if floats else '32-bit integer'} pixels in {ranges}",
            got=f"{lo:g} to {hi:g}",
            hint="scale it to 8 bits",
        )
    pixels = np.empty((image.height, image.width), np.uint8)
    for place, tile in _tiles(image):
        if floats:
            pixels[place] = np.floor(np.clip(tile * (255 / unit), 0, 255) + 0.5)
        else:
            pixels[place] = tile if unit == 255 else tile >> 8
    return _black_is_zero(image, pixels)


def _black_is_zero(image: Image.Image, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Invert the deep images of TIFF in which white is 0, which Pillow leaves as they are."""
    return 255 - pixels if _tiff_tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO else pixels


def _tiff_tag(image: Image.Image, tag: int) -> object:
    tags = getattr(image, "tag_v2", None)
    return None if tags is None else tags.get(tag)
