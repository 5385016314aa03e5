"""Inputs in any form give the same convolution, and the cheapest form is taken."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flow.compiler.borders import border_of
from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.compiler.schedule import Schedule
from flow.program.input_form import InputForm, forms_of
from flow.program.layouts import NO_BORDER, Border, blocks
from flow.program.program import PortTensor, Program
from flow.sim.oracle import run_program
from flow.sim.program_sim import ProgramSim
from relay_passes.partition.layers import Layer, TensorSpec
from tests.flow.compiler.networks import conv, max_pool, residual_network, subgraph, weights
from tests.relay_passes.layer_oracle import run_subgraph
from vta_config.hardware import VTAConfig, preset_names

PAIRS = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(
    patch=PAIRS,
    stride=PAIRS,
    padding=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    extent=PAIRS,
    size=PAIRS,
    fill=st.sampled_from([0, -128]),
)
def test_arrange_is_its_definition(
    patch: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    extent: tuple[int, int],
    size: tuple[int, int],
    fill: int,
) -> None:
    form = InputForm(patch=patch, stride=stride, padding=padding, extent=extent, fill=fill)
    x = np.random.default_rng(0).integers(-128, 128, (2, 3, *size)).astype(np.int8)
    moved = form.arrange(x)
    assert moved.shape == form.dram_shape(x.shape)
    for (n, channel, y, z), value in np.ndenumerate(moved):
        tap, c = divmod(channel, 3)
        row = y * stride[0] - padding[0] + tap // patch[1]
        column = z * stride[1] - padding[1] + tap % patch[1]
        inside = 0 <= row < size[0] and 0 <= column < size[1]
        assert value == (x[n, c, row, column] if inside else fill)


def first_layer(data: st.DataObject, *, pooled: bool = False) -> tuple[Layer, TensorSpec]:
    """Draw a convolution of few channels on an input."""
    draw = data.draw
    kernel = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    padding = draw(st.tuples(*[st.integers(0, kernel[axis] - 1) for axis in (0, 1, 0, 1)]))
    size = [kernel[axis] + draw(st.integers(10 if pooled else 0, 20)) for axis in (0, 1)]
    x = TensorSpec(name="x", shape=(1, draw(st.integers(1, 9)), *size), dtype="int8")
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    channels, number = draw(st.integers(1, 40)), draw(st.sampled_from([0, -128, 5]))
    window = {"stride": stride, "padding": padding, "pad_value": number}
    return conv(rng, "conv", x, channels, kernel, **window), x


def run(program: Program, x: np.ndarray) -> np.ndarray:
    """Return the output on fsim, through the file; the oracle must agree."""
    program = Program.from_bytes(program.to_bytes())
    (output,) = ProgramSim(program).run([x], seed=1).outputs
    np.testing.assert_array_equal(run_program(program, [x]).outputs[0], output)
    return output


@settings(max_examples=25, deadline=None)
@given(
    data=st.data(),
    preset=st.sampled_from(preset_names()),
    window=st.sampled_from([None, (2, 2, 0), (3, 2, 1), (4, 3, 1)]),
)
def test_every_form_gives_the_same_convolution(
    data: st.DataObject, preset: str, window: tuple[int, int, int] | None
) -> None:
    config = VTAConfig.load(preset)
    layer, x = first_layer(data, pooled=window is not None)
    layers = (layer, max_pool("narrow", layer, *window)) if window else (layer,)
    if window:  # every window starts inside the picture
        sizes = zip(layers[-1].out_shape[2:], layer.out_shape[2:], strict=True)
        assume(all((out - 1) * window[1] < size for out, size in sizes))
    graph = subgraph(layers, x)
    image = weights(np.random.default_rng(0), *x.shape)
    expected = run_subgraph(graph, [image])[graph.outputs[0].name]
    form = data.draw(st.sampled_from(forms_of(layer, config.block)))
    schedule = Schedule(forms={} if form is None else {"x": form})
    program = make_program(graph, lower(graph, config, schedule), config)
    border = border_of(layer)
    plain = None if border.empty else InputForm.bordered(x.shape, border)
    assert program.inputs[0].form == (form or plain)
    np.testing.assert_array_equal(run(program, image), expected)
    chosen = make_program(graph, lower(graph, config), config)
    np.testing.assert_array_equal(run(chosen, image), expected)


def stem(size: int = 224) -> Layer:
    x = TensorSpec(name="x", shape=(1, 3, size, size), dtype="int8")
    rng = np.random.default_rng(0)
    return conv(rng, "stem", x, 64, (7, 7), stride=(2, 2), padding=(3, 3, 3, 3))


def steps(layer: Layer, form: InputForm | None, block: int) -> int:
    """Count the blocks of weights that are not zeros alone."""
    assert layer.weight is not None
    ones = np.ones_like(layer.weight)
    weight = ones if form is None else form.weight(ones)
    weight = np.pad(weight, ((0, 0), (0, -weight.shape[1] % block), (0, 0), (0, 0)))
    return int(weight[0].reshape(-1, block, *weight.shape[2:]).any(1).sum())


def test_forms_of_the_resnet_stem() -> None:
    layer = stem()
    forms = forms_of(layer, 16)
    found = [(steps(layer, form, 16), form.patch, form.extent) for form in forms if form]
    assert found[:3] == [
        (10, (4, 7), (114, 112)),
        (10, (7, 7), (112, 112)),
        (11, (2, 7), (115, 112)),
    ]
    assert (16, (2, 2), (115, 115)) in found
    # Each one more takes fewer bytes for more steps, but for the whole kernel.
    assert [count for count, *_ in found] == sorted(count for count, *_ in found)
    sizes = [np.prod(form.dram_shape(layer.in_shape)[2:]) * blocks(3 * np.prod(form.patch), 16)
             for form in forms if form and form.patch != (7, 7)]  # fmt: skip
    assert sizes == sorted(sizes, reverse=True)


def test_what_gains_nothing_stays_plain(default_config: VTAConfig) -> None:
    dilated = replace(stem(16), dilation=(2, 2), out_shape=(1, 64, 5, 5))
    assert forms_of(dilated, 16) == [None]
    assert forms_of(residual_network(np.random.default_rng(0)).layers[1], 16) == [None]
    x = TensorSpec(name="x", shape=(1, 16, 8, 8), dtype="int8")
    layer = conv(np.random.default_rng(0), "conv", x, 16, (3, 3), padding=(1, 1, 1, 1))
    assert forms_of(layer, 16)[-1] is None
    assert lower(subgraph((layer,), x), default_config).forms == {}
    # Two readers: the second one would have to read the same form.
    image = TensorSpec(name="x", shape=(1, 3, 16, 16), dtype="int8")
    both = subgraph((stem(16), replace(stem(16), name="again", output="again")), image)
    assert lower(both, default_config).forms == {}


@pytest.mark.parametrize(("preset", "most"), [("default", 12), ("block32", 8), ("small", 16)])
def test_the_stem_takes_a_cheap_form(preset: str, most: int) -> None:
    config = VTAConfig.load(preset)
    layer = stem()
    x = TensorSpec(name="x", shape=(1, 3, 224, 224), dtype="int8")
    form = lower(subgraph((layer,), x), config).forms["x"]
    assert steps(layer, form, config.block) <= most


def test_borders_are_forms() -> None:
    shape = (1, 3, 8, 6)
    form = InputForm.bordered(shape, Border(2, 1, 0, 3, -128))
    assert form.dram_shape(shape) == (1, 3, 10, 10) and form.fill == -128
    assert form.keeps_pixels(shape) and InputForm.plain(shape).keeps_pixels(shape)
    assert InputForm.bordered(shape, NO_BORDER) == InputForm.plain(shape)
    for change in ({"patch": (1, 2)}, {"stride": (2, 1)}, {"extent": (9, 10)}, {"extent": (10, 6)}):
        assert not replace(form, **change).keeps_pixels(shape)  # type: ignore[arg-type]  # pairs


def test_impossible_forms() -> None:
    with pytest.raises(ValueError, match="patch, stride and extent must be at least 1, got Input"):
        InputForm(patch=(0, 1), stride=(1, 1), padding=(0, 0), extent=(1, 1))
    whole = PortTensor(name="x", dtype="int8", shape=(1, 3, 8, 8), address=0).to_bytes(0)
    with pytest.raises(ValueError, match="must be at least 1"):
        PortTensor.from_fields("x", struct.unpack("<IIQ12I", whole[:32] + bytes(4) + whole[36:]))
