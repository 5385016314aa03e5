"""Pointer gauges that come with the package: drawn, not stored; 200 classes, 32x32 pixels.

A picture shows a round dial with a pointer. Its class is what the pointer shows: 0, 0.5, 1, ...
99.5 % of a scale of 270 degrees. Dial, colours, light and place differ from picture to picture, and
neighbouring classes are 1.35 degrees apart: a quarter of a pixel at the tip of the pointer. A
network must tell small differences apart, so small errors of its integers cost accuracy.

The drawings are this project's own, under its licence. They depend on a seed alone: evaluation,
calibration and training have different ones.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flow.data.datasets import ArraySource, Dataset, Preprocessing

GAUGES_CLASSES: Final = 200
GAUGES_PIXELS: Final = 32
#: Pictures of each class for evaluation, and pictures of any class for calibration.
EVALUATION_OF_A_CLASS: Final = 10
CALIBRATION_PICTURES: Final = 125
EVALUATION_SEED: Final = 1
CALIBRATION_SEED: Final = 2
#: Seeds from here on are for training.
FIRST_TRAINING_SEED: Final = 1000

#: The scale, in degrees; 0 is up, and readings grow clockwise.
SCALE_BEGIN: Final = -135.0
SCALE_SPAN: Final = 270.0
MARKS: Final = 6
#: Largest change of any pixel by noise, of 255.
MOST_NOISE: Final = 2.0
#: Pictures that are drawn at a time, which bounds the memory.
_AT_A_TIME: Final = 250

_Float = NDArray[np.float64]


def gauges(preprocessing: Preprocessing, *, held_out: bool) -> Dataset:
    """Open the gauges.

    Parameters
    ----------
    preprocessing : Preprocessing
        How pictures become inputs.
    held_out : bool
        True for evaluation (2,000 pictures, 10 of each class), False for calibration (125 of
        random classes, as in training).
    """
    if held_out:
        classes = np.arange(GAUGES_CLASSES * EVALUATION_OF_A_CLASS) % GAUGES_CLASSES
        images = draw_gauges(classes, seed=EVALUATION_SEED)
    else:
        classes = random_classes(CALIBRATION_PICTURES, seed=CALIBRATION_SEED)
        images = draw_gauges(classes, seed=CALIBRATION_SEED)
    return Dataset(
        name="gauges (held out)" if held_out else "gauges (calibration part)",
        source=ArraySource(images),
        preprocessing=preprocessing,
        labels=classes,
    )


def random_classes(count: int, *, seed: int) -> NDArray[np.int64]:
    """Draw `count` classes, int64[count], all as likely."""
    return np.floor(_uniform(count, seed, stream=1) * GAUGES_CLASSES).astype(np.int64)


def class_degrees(classes: NDArray[np.int64]) -> _Float:
    """Return the direction of the pointer for each class, in degrees clockwise from up."""
    degrees: _Float = SCALE_BEGIN + classes.astype(np.float64) * (SCALE_SPAN / GAUGES_CLASSES)
    return degrees


def draw_gauges(classes: NDArray[np.int64], *, seed: int) -> NDArray[np.uint8]:
    """Draw a gauge for each class, each with a look of its own.

    Parameters
    ----------
    classes : int64[N]
        What the pointers show, 0 to 199.
    seed : int
        Of everything else; picture i depends on its class, the seed and i alone.

    Returns
    -------
    uint8[N, 32, 32, 3]
        Red, green and blue.
    """
    look = _uniform(len(classes) * _AMOUNTS, seed, stream=2).reshape(-1, _AMOUNTS)
    shape = (len(classes), GAUGES_PIXELS, GAUGES_PIXELS, 3)
    noise = _uniform(math.prod(shape), seed, stream=3).reshape(shape)
    pixels = np.empty(shape, np.uint8)
    for first in range(0, len(classes), _AT_A_TIME):
        part = slice(first, first + _AT_A_TIME)
        drawn = _draw(class_degrees(classes[part]), look[part])
        drawn += (noise[part] * 2 - 1) * MOST_NOISE
        pixels[part] = np.clip(np.floor(drawn + 0.5), 0, 255)
    return pixels


# ---- drawing -------------------------------------------------------------------------------------
#: Random amounts of a picture.
_AMOUNTS: Final = 21


class _Look:
    """Hands out the random amounts of pictures, one after the other."""

    def __init__(self, amounts: _Float) -> None:
        """Start at the first of float64[N, amounts]."""
        self.amounts, self.used = amounts, 0

    def number(self, lo: float, hi: float) -> _Float:
        """Return a number for each picture, float64[N, 1, 1]."""
        self.used += 1
        return (lo + (hi - lo) * self.amounts[:, self.used - 1])[:, np.newaxis, np.newaxis]

    def colour(self, lo: float, hi: float) -> _Float:
        """Return a colour for each picture, float64[N, 1, 1, 3]."""
        return np.stack([self.number(lo, hi) for _ in range(3)], axis=-1)


def _draw(degrees: _Float, amounts: _Float) -> _Float:
    """Draw one gauge for each direction of its pointer; return float64[N, 32, 32, 3].

    All lengths are in pixels.
    """
    look = _Look(amounts)
    at = np.arange(GAUGES_PIXELS) + 0.5 - GAUGES_PIXELS / 2
    y = at[np.newaxis, :, np.newaxis] - look.number(-1.5, 1.5)
    x = at[np.newaxis, np.newaxis] - look.number(-1.5, 1.5)
    from_centre = np.sqrt(x * x + y * y)
    radius = look.number(11.5, 14.0)

    image = np.broadcast_to(look.colour(0, 160), (*from_centre.shape, 3)).copy()
    rim = look.colour(0, 120)
    _paint(image, from_centre - radius, rim)
    face = look.number(150, 255)[..., np.newaxis] + look.colour(-30, 30)
    _paint(image, from_centre - radius + 1.3, face)
    for mark in range(MARKS):
        along, across = _turned(x, y, SCALE_BEGIN + mark * SCALE_SPAN / (MARKS - 1))
        _paint(image, np.maximum(across - 0.4, np.abs(along - radius + 3) - 1), rim)

    along, across = _turned(x, y, degrees[:, np.newaxis, np.newaxis])
    length, width = radius * look.number(0.65, 0.85), look.number(0.5, 1.1)
    tapered = across - width * np.clip(1 - 0.5 * along / length, 0, 2)
    ends = np.maximum(along - length, -along - 0.25 * length)
    _paint(image, np.maximum(tapered, ends), look.colour(0, 90))
    _paint(image, from_centre - look.number(1.2, 2.2), rim)

    half = GAUGES_PIXELS / 2
    light = 1 + look.number(-0.25, 0.25) * x / half + look.number(-0.25, 0.25) * y / half
    assert look.used == _AMOUNTS, "all amounts have a use"
    lit: _Float = image * light[..., np.newaxis]
    return lit


def _turned(x: _Float, y: _Float, degrees: _Float | float) -> tuple[_Float, _Float]:
    """Return how far points lie along a direction from the centre, and beside it."""
    angle = np.deg2rad(degrees)
    sin, cos = np.sin(angle), np.cos(angle)
    return x * sin - y * cos, np.abs(x * cos + y * sin)


def _paint(image: _Float, distance: _Float, colour: _Float) -> None:
    """Paint where the distance to a shape is negative; its edge is one pixel wide."""
    cover = np.clip(0.5 - distance, 0, 1)[..., np.newaxis]
    image += (colour - image) * cover


def _uniform(count: int, seed: int, *, stream: int) -> _Float:
    """Return numbers in [0, 1) out of PCG64's bits, which no version of numpy changes."""
    bits = np.random.PCG64([seed, stream]).random_raw(count)
    result: _Float = (bits >> np.uint64(11)) * 2.0**-53
    return result
