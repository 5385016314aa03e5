"""The images on which the integers of the deployed variant are furthest from float32."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flow.data.datasets import PICTURE_CHANNELS, Dataset
from flow.outputs import Output, classes_of
from flow.results.contact_sheet import contact_sheet
from flow.results.details.types import WorstImage, WorstImages
from relay_passes.numerics import centred, decibels, limited_db

#: How many images a report shows.
SHOWN: Final = 8
#: The longer side of a picture, in pixels.
PIXELS: Final = 112
#: Smaller inputs are no pictures that say anything.
_LEAST_SIDE: Final = 4


def worst_images(
    data: Dataset,
    logits: NDArray[np.float32],
    reference: NDArray[np.float32],
    outputs: Sequence[Output] = (),
) -> WorstImages:
    """Return the images with another answer than float32, then those of the least SQNR.

    Parameters
    ----------
    data : Dataset
        The images evaluated.
    logits, reference : float32[images, values]
        Of the variant and of float32.
    outputs : sequence of Output
        What the values are; by default the logits of a classifier.
    """
    is_classifier = not outputs or classes_of(outputs) is not None
    noise = np.array(
        [_sqnr(r, v, is_classifier) for r, v in zip(reference, logits, strict=True)], np.float64
    )
    differs = np.zeros(len(noise), bool)
    if is_classifier:
        differs = logits.argmax(axis=1) != reference.argmax(axis=1)
    order = np.lexsort((noise, ~differs))[:SHOWN]
    targets = data.targets if is_classifier else None
    return WorstImages(
        images=tuple(
            WorstImage(
                name=_name(data, int(k)),
                label=None if targets is None else int(targets[k]),
                float_class=int(reference[k].argmax()) if is_classifier else None,
                integer_class=int(logits[k].argmax()) if is_classifier else None,
                sqnr_db=None if np.isinf(noise[k]) else round(limited_db(float(noise[k])), 3),
                png=png(data[int(k)]),
            )
            for k in order
        ),
        differing=int(differs.sum()) if is_classifier else None,
        evaluated=len(noise),
    )


def _sqnr(
    reference: NDArray[np.float32], values: NDArray[np.float32], is_classifier: bool
) -> float:
    """Return the SQNR of one image's outputs in dB."""
    r, v = np.asarray(reference[np.newaxis], np.float64), np.asarray(values[np.newaxis], np.float64)
    if is_classifier and reference.size > 1:
        r, v = centred(r), centred(v)
    return decibels(float(np.square(r).sum()), float(np.square(r - v).sum()))


def _name(data: Dataset, position: int) -> str:
    """Return what the report calls an image: of a file its name and its folder's."""
    index = position if data.indices is None else data.indices[position]
    where = data.source.where(index)
    return "/".join(PurePath(where).parts[-2:])


def png(image: NDArray[np.float32]) -> str:
    """Draw an input as a small picture, PNG in base64; "" where it is no picture.

    Parameters
    ----------
    image : float32[1, C, H, W]
        Of one or three channels; others are no pictures.
    """
    if image.ndim != 4 or image.shape[0] != 1 or image.shape[1] not in PICTURE_CHANNELS:
        return ""
    if min(image.shape[2:]) < _LEAST_SIDE:
        return ""
    whole = Image.open(io.BytesIO(contact_sheet([image[0]])))
    whole.thumbnail((PIXELS, PIXELS))
    file = io.BytesIO()
    whole.quantize(64).save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")
