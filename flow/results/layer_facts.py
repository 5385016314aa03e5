"""What reports say of each layer of a variant: accuracy, bits and cost; also as a CSV table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Final

LAYERS_FILE: Final = "layers.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFacts:
    """One layer on VTA of one variant.

    Parameters
    ----------
    name : str
        The layer, as in `latency.layers`.
    kind : str
        Its operator.
    tensor : str
        The tensor that it writes, which the following values describe.
    sqnr_db : float, optional
        10·log10(Σ ref² / Σ (value - ref)²) of this tensor against the float32 tensor, in dB, over
        `layer_images` images; within ±300, 300 if they are equal. null if there is no float32
        tensor to compare it with.
    centred_sqnr_db : float, optional
        The same after each image's mean is subtracted from both.
    weight_bits : int, optional
        Bits of its weights; null without weights.
    activation_bits : int, optional
        Bits of the tensor that it reads; null if unknown.
    scale : float, optional
        Scale of the tensor; null if there is one per channel, or it is unknown.
    zero_point : int, optional
        Zero point of the tensor; null for an int32 tensor, or if it is unknown.
    cycles : int, optional
        Latency of the layer; null if it is not timed.
    macs : int
        Multiply-accumulate operations for one image.
    weight_bytes : int
        Bytes of its weights, without padding.
    """

    name: str
    kind: str
    tensor: str
    sqnr_db: float | None = None
    centred_sqnr_db: float | None = None
    weight_bits: int | None = None
    activation_bits: int | None = None
    scale: float | None = None
    zero_point: int | None = None
    cycles: int | None = None
    macs: int = 0
    weight_bytes: int = 0


def layers_csv(variants: Iterable[tuple[str, Iterable[LayerFacts]]]) -> str:
    """Return a heading and a line for each variant and layer; an empty cell stands for null."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("variant", *(f.name for f in fields(LayerFacts))))
    for variant, layers in variants:
        writer.writerows((variant, *asdict(layer).values()) for layer in layers)
    return file.getvalue()
