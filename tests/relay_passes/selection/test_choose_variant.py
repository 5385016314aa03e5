"""Choosing among quantized forms: by error, the cheaper one where they are alike."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from relay_passes.graph import op_name, read_graph
from relay_passes.selection.choices import Candidate
from relay_passes.selection.choose_variant import before_saturation, choose, compare, results
from tests.relay_passes.models import CNN, images


def candidate(name: str, sqnr_db: float, centred_db: float | None = None) -> Candidate:
    centred = sqnr_db if centred_db is None else centred_db
    return Candidate(name=name, sqnr_db=sqnr_db, centred_db=centred)


def test_the_first_that_is_near_the_best() -> None:
    found = [candidate("a", 19.7), candidate("b", 19.9), candidate("c", 20.0)]
    assert choose(found, 0.2).name == "b"
    assert choose(found, 0.4).name == "a"
    assert choose(found, 0.0).name == "c"


def test_both_measures_count() -> None:
    found = [candidate("a", 30, 20), candidate("b", 29.9, 25)]
    assert choose(found, 0.2).name == "b"
    assert choose([candidate("a", 30, 20), candidate("b", 28, 21)], 0.2).name == "a"


def test_errors_with_and_without_the_mean() -> None:
    reference = np.asarray([[3, 1], [2, -2]], np.float32)
    found = compare("x", np.asarray([[4, 2], [2, -1]], np.float32), reference)
    assert found.sqnr_db == pytest.approx(10 * np.log10(18 / 3))
    # less their means: [1, -1], [2, -2] against [1, -1], [1.5, -1.5]
    assert found.centred_db == pytest.approx(10 * np.log10(10 / 0.5))
    one = compare("x", np.asarray([[2.0]], np.float32), np.asarray([[1.0]], np.float32))
    assert one.sqnr_db == one.centred_db == 0.0


def test_equal_and_broken_results_are_told_apart() -> None:
    reference = np.asarray([[3, 1]], np.float32)
    assert compare("x", reference, reference).sqnr_db == 300.0
    assert compare("x", np.asarray([[np.inf, 1]], np.float32), reference).sqnr_db == -300.0
    zeros = np.zeros((1, 2), np.float32)
    assert np.isfinite(compare("x", zeros, zeros).centred_db)


@pytest.mark.parametrize("reshape", [False, True])
def test_a_softmax_is_left_out(reshape: bool) -> None:
    net = CNN()
    logits = net.head(net.conv(net.data, 4))
    end = net.emit(relax.op.nn.softmax(logits))
    if reshape:
        end = net.emit(relax.op.reshape(end, (7, 1)))
    plain = CNN()
    plain.head(plain.conv(plain.data, 4))
    data = images(2)
    expected = results(plain.module(plain.pending[-1][0]), data)
    assert expected.shape == (2, 7)
    np.testing.assert_array_equal(results(net.module(end), data), expected)


def test_results_before_a_reshape_alone_stay() -> None:
    net = CNN()
    end = net.emit(relax.op.reshape(net.relu(net.conv(net.data, 2)), (1, 288)))
    bindings = read_graph(before_saturation(net.module(end))).bindings
    assert op_name(bindings[-1].value) == "reshape"


def test_outputs_count_alike() -> None:
    """The mean of the SQNRs of both outputs, however large their numbers are."""
    reference = np.array([[1000, 2000, 1, 2]], np.float32)
    values = reference + np.array([[0, 0, 0.1, 0]], np.float32)
    values[0, :2] *= 1.1
    joint = compare("v", values, reference)
    apart = compare("v", values, reference, (2, 2))
    assert joint.sqnr_db == pytest.approx(20, abs=0.01)
    small = 10 * np.log10(5 / 0.01)
    assert apart.sqnr_db == pytest.approx((20 + small) / 2, abs=0.01)
    assert compare("v", values, reference, (4,)) == joint
