"""What a report says of the integers of a file."""

from __future__ import annotations

from flow.results.kept_lines import kept_lines
from relay_passes.scales.kept import Deviation


def test_lines() -> None:
    whole = Deviation(tensors=3, same_tensors=3, channels=1600, same_channels=1600)
    part = Deviation(
        tensors=3, same_tensors=2, tensor="pool", tensor_factor=1.5,
        channels=32, same_channels=16, weight="conv", weight_factor=0.98765,
    )  # fmt: skip
    assert kept_lines([("best", None), ("keep_dyadic", whole), ("keep", part)]) == [
        "kept       keep_dyadic: 3 of 3 tensors have the scale of the file",
        "           keep_dyadic: 1,600 of 1,600 channels have the weights of the file",
        "           keep: 2 of 3 tensors have the scale of the file; furthest pool, whose scale is "
        "1.5000 times that",
        "           keep: 16 of 32 channels have the weights of the file; furthest conv, whose "
        "scale is 0.9877 times that",
    ]
    assert kept_lines([("best", None)]) == []
