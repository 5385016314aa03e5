"""Dataclasses and profiles come back exactly, or not at all."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import pytest

from flow.cache.store import TEXT, text_array
from flow.cache.values import from_json, packed_profiles, read_as, to_json, unpacked_profiles
from flow.results.bit_choice import BitChoice, LayerBits
from flow.results.layer_facts import LayerFacts
from relay_passes.params import TensorProfile
from relay_passes.selection.choices import Candidate, Choice, LayerProof

CHOICE = Choice(
    variant="best",
    chosen="per_tensor",
    candidates=(Candidate(name="best", sqnr_db=0.1, centred_db=-inf),),
    layers=(LayerProof(layer="a\\udc80", damping=inf, correct_bias=True, gain_db=1 / 3),),
)
BITS = BitChoice(
    layers=(
        LayerBits(
            name="a", bits=(4, 8), fixed=False, weights=9, macs=81,
            cycles={(4, 8): 7}, omega={"measured": {(4, 8): 0.1}},
        ),
    ),
    sensitivity="measured",
    perturbation=1e-300,
    limits={},
    ranges={"size": (0.5, 2.0)},
    costs={"size": 1.0},
    remarks=("one",),
)  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [CHOICE, BITS, (LayerFacts(name="a", kind="x", tensor="b", sqnr_db=-0.0),), [1, (2.5, None)]],
)  # fmt: skip
def test_values_come_back(value: Any) -> None:
    found = from_json(to_json(value))
    assert found == value and repr(found) == repr(value)  # types and signs of zeros, too


def test_what_is_not_kept() -> None:
    with pytest.raises(TypeError, match="complex"):
        to_json((1, 2j))
    with pytest.raises(TypeError, match="TensorProfile"):
        to_json(profile("a"))


@pytest.mark.parametrize(
    "value",
    [
        None, 1, "a", [], {}, {"class": "Choice"}, {"class": "Unknown", "fields": {}},
        {"class": "Choice", "fields": {"variant": "a"}}, {"class": "Choice", "fields": []},
        {"float": "x"}, {"tuple": 3}, {"map": [[1]]}, to_json(BITS),
    ],
)  # fmt: skip
def test_foreign_values_are_none(value: Any) -> None:
    assert read_as(Choice, value) is None


def profile(name: str) -> TensorProfile:
    return TensorProfile(
        name=name,
        lo=-0.1,
        hi=1 / 3,
        histogram=np.arange(8, dtype=np.int64),
        limit=0.5,
        samples=2,
        sample_hi=np.array([0.1, 0.2], np.float32),
    )


def test_profiles_come_back_in_their_order() -> None:
    profiles = {name: profile(f"{name}'s") for name in ("z", "a", "layer1.0/conv")}
    found = unpacked_profiles(packed_profiles(profiles))
    assert found is not None and list(found) == list(profiles)
    for name, own in profiles.items():
        for field in TensorProfile.__slots__:
            got, want = getattr(found[name], field), getattr(own, field)
            assert type(got) is type(want)
            np.testing.assert_array_equal(got, want)
            assert np.asarray(got).dtype == np.asarray(want).dtype


def test_foreign_profiles_are_none() -> None:
    arrays = packed_profiles({"a": profile("a")})
    assert unpacked_profiles({}) is None
    for name in arrays:
        assert unpacked_profiles({k: v for k, v in arrays.items() if k != name}) is None
    for rows in ([["a"]], {"a": 1}, [["a", "a", "x", "0x1p0", "0x1p0", 1]],
                 [["a", "a", "0x1p1", "0x1p0", "0x1p1", 1]]):  # fmt: skip
        assert unpacked_profiles({**arrays, TEXT: text_array(rows)}) is None
