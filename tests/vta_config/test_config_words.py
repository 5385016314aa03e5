"""The CONFIG section of a program file, word by word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vta_config import VTAConfig
from vta_config.config_words import WORDS, capability_bits, config_words, word_of


def test_words_of_the_default_machine(default_config: VTAConfig) -> None:
    words = config_words(default_config, arena_bytes=4096, constants_at=1024)
    assert words == [
        *(3, 3, 5),  # log2 of the bits of inputs, weights, accumulators
        *(0, 4),  # log2 of batch and block
        *(15, 15, 18, 17),  # log2 of the bytes of each buffer
        *(64, 0, 100_000_000),  # bus bits, capabilities, clock in Hz
        *(4096, 1024, 16, 0),  # arena and constants in bytes, beats of a burst, reserved
    ]
    assert len(WORDS) == len(words) == 16
    assert word_of(tuple(words), "arena_bytes") == 4096
    assert word_of(tuple(words), "burst_beats") == 16


@pytest.mark.parametrize(
    ("capabilities", "bits"),
    [((), 0), (("mul",), 1), (("shr_register",), 4), (("mul", "shr_register"), 5)],
)
def test_bits_of_capabilities(
    capabilities: tuple[str, ...], bits: int, default_config: VTAConfig
) -> None:
    machine = replace(default_config, capabilities=frozenset(capabilities))
    assert capability_bits(machine) == bits
    assert word_of(tuple(config_words(machine)), "capabilities") == bits


def test_words_lie_in_their_ranges(preset: VTAConfig) -> None:
    for word, value in zip(WORDS, config_words(preset), strict=True):
        assert word.low <= value <= word.high, word.name


def test_a_word_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="'voltage' is not in list"):
        word_of((0,) * 16, "voltage")
