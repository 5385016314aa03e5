"""A contact sheet: many images in one picture, to look at."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: The most images that a sheet shows.
MAX_TILES: Final = 100
#: Smaller images are enlarged by a whole factor, larger ones reduced, in pixels of the longer side.
LEAST_PIXELS: Final = 64
MOST_PIXELS: Final = 224
#: Share of values, in %, that may be darker than black, and lighter than white.
CLIPPED_PERCENT: Final = 0.5
_GAP: Final = 2
_BACKGROUND: Final = (96, 96, 160)


def contact_sheet(images: Sequence[NDArray[np.float32]]) -> bytes:
    """Draw images of any channels; return a PNG file.

    The values of each image are scaled to 0..255. Three channels are red, green and blue, one is
    grey; of another number each channel is a grey tile of its own, scaled by itself.

    Parameters
    ----------
    images : sequence of float32[C, H, W]
        Of one shape, at least one; the first `MAX_TILES` are drawn.
    """
    tiles = [_tile(image) for image in images[:MAX_TILES]]
    height, width = tiles[0].shape[:2]
    columns = min(len(tiles), math.ceil(math.sqrt(len(tiles) * height / width)))
    sheet = _grid(tiles, columns)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, format="PNG")
    return file.getvalue()


def _tile(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return an image as uint8[H, W, 3]."""
    channels = image.shape[0]
    if channels in (1, 3):
        pixels = np.broadcast_to(_bytes(image), (3, *image.shape[1:])).transpose(1, 2, 0)
        return _resized(np.ascontiguousarray(pixels))
    grey = [np.repeat(_bytes(plane)[..., np.newaxis], 3, axis=2) for plane in image]
    return _grid([_resized(tile) for tile in grey], math.ceil(math.sqrt(channels)))


def _bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Scale values to 0..255, the few smallest and largest clipped."""
    values = values.astype(np.float64)
    lo, hi = np.percentile(values, (CLIPPED_PERCENT, 100 - CLIPPED_PERCENT))
    if hi <= lo:
        return np.full(values.shape, 128, np.uint8)
    scaled = np.clip((values - lo) / (hi - lo), 0, 1) * 255 + 0.5
    return np.asarray(scaled, dtype=np.uint8)


def _resized(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bring uint8[H, W, 3] to a size that can be seen."""
    longer = max(tile.shape[:2])
    if longer <= MOST_PIXELS:
        factor = max(1, math.ceil(LEAST_PIXELS / longer))
        return tile.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = (max(1, round(n * MOST_PIXELS / longer)) for n in tile.shape[:2])
    picture = Image.fromarray(tile).resize((width, height), Image.Resampling.BOX)
    return np.asarray(picture, dtype=np.uint8)


def _grid(tiles: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Put tiles uint8[H, W, 3] of one size into rows."""
    height, width = tiles[0].shape[:2]
    rows = math.ceil(len(tiles) / columns)
    shape = (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3)
    sheet = np.empty(shape, np.uint8)
    sheet[:] = _BACKGROUND
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + _GAP), index % columns * (width + _GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet
