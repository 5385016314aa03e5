"""What a quantized model says of its numbers, and the next that a machine has."""

from __future__ import annotations

import pytest

from relay_passes.scales.bit_widths import Limits
from relay_passes.scales.kept import KeptModel, KeptTensor, KeptWeight
from vta_config.errors import CapacityError


def test_the_next_numbers_of_a_machine() -> None:
    def next_to(**tensor: int | float) -> tuple[float, int, int]:
        found = KeptTensor(**tensor).params(Limits())  # type: ignore[arg-type]
        assert found.signed == (found.zero_point == 0)
        return round(found.scale[0], 9), found.bits, found.zero_point

    # uint8 from 0: all 256 integers, the smallest is 0.0.
    assert next_to(scale=0.3, qmin=0, qmax=255) == (0.3, 8, -128)
    assert next_to(scale=0.3, zero_point=-128) == (0.3, 8, -128)
    # Symmetric, also as uint8 around 128.
    assert next_to(scale=0.3) == (0.3, 8, 0)
    assert next_to(scale=0.3, zero_point=128, qmin=0, qmax=255) == (0.3, 8, 0)
    # Around another number: symmetric, with steps as large as the longer side needs.
    assert next_to(scale=1.27, zero_point=-27) == (1.54, 8, 0)
    # Few bits, and more than 8.
    assert next_to(scale=0.3, qmin=-8, qmax=7) == (0.3, 4, 0)
    assert next_to(scale=0.3, qmin=0, qmax=15) == (0.3, 4, -8)
    assert next_to(scale=0.00127, qmin=-32768, qmax=32767) == (0.32767, 8, 0)
    assert next_to(scale=0.001, qmin=0, qmax=65535) == (0.257, 8, -128)


def test_a_machine_with_smaller_integers() -> None:
    found = KeptTensor(scale=0.119).params(Limits(activation=119))
    assert found.scale[0] == pytest.approx(0.127) and found.qmax == 119


def test_bits_of_weights() -> None:
    assert [KeptWeight(peaks=(p,)).bits for p in (0, 1, 7, 8, 127, 128, 255)] == [
        2,
        2,
        4,
        5,
        8,
        8,
        8,
    ]


def test_numbers_that_cannot_be() -> None:
    with pytest.raises(
        CapacityError, match=r"KeptTensor.scale: must be positive and finite, got 0"
    ):
        KeptTensor(scale=0.0)
    sentence = r"KeptTensor.zero_point: must be between the smallest and the largest integer, got"
    with pytest.raises(CapacityError, match=sentence):
        KeptTensor(scale=1.0, zero_point=9, qmin=-8, qmax=7)


def test_other_names() -> None:
    tensor, weight = KeptTensor(scale=1.0), KeptWeight(peaks=(1,))
    model = KeptModel(tensors={"a": tensor, "b": tensor}, weights={"w": weight})
    assert model.renamed({"c": "a", "v": "w", "x": "y"}) == KeptModel(
        tensors={"c": tensor}, weights={"v": weight}
    )
