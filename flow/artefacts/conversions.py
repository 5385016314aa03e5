"""How a network's floats become the integers of its programs, and the results floats again.

Both are read from the partitioned module, where they are arithmetic of the host: an input is
quantized as clip(floor(x * multiplier + 0.5) + zero_point, qmin, qmax), a result becomes
(q - zero_point) * scale, all in float32. Whoever runs a program without the host's code needs
these numbers, and nothing else where nothing else is on the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import (
    Expr,
    Module,
    clip_limits,
    constant,
    dtype_of,
    op_name,
    read_graph,
    static_shape,
)

#: Operators that leave the numbers of a tensor in their order.
_SAME_ORDER: Final = frozenset({"reshape", "nn.batch_flatten", "flatten", "expand_dims", "squeeze"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantizing:
    """How an input of a program is made of an input of the network.

    Parameters
    ----------
    source : str
        The variable that is quantized.
    parameter : int
        Its position among the network's inputs.
    program : str
        Symbol of the program.
    position : int
        Of the input among the program's.
    multiplier : float
        1 / scale, a float32.
    zero_point, qmin, qmax : int
    """

    source: str
    parameter: int
    program: str
    position: int
    multiplier: float
    zero_point: int
    qmin: int
    qmax: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dequantizing:
    """How a result of the network is made of an output of a program.

    Parameters
    ----------
    program : str
        Symbol of the program.
    position : int
        Of the output among the program's.
    scale : tuple of float
        float32: one, or one for each channel.
    zero_point : int
    """

    program: str
    position: int
    scale: tuple[float, ...]
    zero_point: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversions:
    """What the host does before and behind the programs, as far as it is only that.

    Parameters
    ----------
    inputs : tuple of Quantizing
        Of those inputs of programs that are an input of the network, quantized.
    results : tuple of (Dequantizing or None)
        One for each result of the network; None where the host computes more than that.
    outputs : tuple of Dequantizing
        Of those outputs of programs that the host makes floats of, whatever comes behind.
    """

    inputs: tuple[Quantizing, ...]
    results: tuple[Dequantizing | None, ...]
    outputs: tuple[Dequantizing, ...]


def read_conversions(partitioned: Module) -> Conversions:
    """Read the conversions around the programs of a partitioned module."""
    graph = read_graph(partitioned)
    definitions = graph.definitions()
    inputs, outputs = [], {}
    for binding in graph.bindings:
        symbol = _symbol(binding.value)
        if symbol is None:
            continue
        outputs[binding.var] = (symbol, 0)
        for position, argument in enumerate(binding.value.args):
            found = _quantizing(argument, definitions, list(graph.params), symbol, position)
            if found is not None:
                inputs.append(found)
    for binding in graph.bindings:
        tuple_value = getattr(binding.value, "tuple_value", None)
        if tuple_value in outputs:
            outputs[binding.var] = (outputs[tuple_value][0], int(binding.value.index))
    results = tuple(_dequantizing(result, definitions, outputs) for result in graph.results)
    known: dict[tuple[str, int], Dequantizing] = {}
    for binding in graph.bindings:
        if op_name(binding.value) == "multiply":
            found_output = _dequantizing(binding.var, definitions, outputs)
            if found_output is not None:
                place = found_output.program, found_output.position
                known.setdefault(place, found_output)
    return Conversions(inputs=tuple(inputs), results=results, outputs=tuple(known.values()))


def _symbol(value: Expr) -> str | None:
    """Return the name of the program that `value` calls, None for anything else."""
    name = getattr(getattr(value, "op", None), "name_hint", None)
    return None if name is None else str(name)


def _value(var: Expr, definitions: Mapping[Expr, Any]) -> Any:
    """Return what is bound to a variable, None to a parameter."""
    return definitions.get(var)


def _plain(var: Expr, definitions: Mapping[Expr, Any]) -> Expr:
    """Return the tensor that `var` is another shape of."""
    while op_name(_value(var, definitions)) in _SAME_ORDER:
        var = definitions[var].args[0]
    return var


def _step(
    var: Expr, kind: str, definitions: Mapping[Expr, Any]
) -> tuple[Expr, NDArray[Any]] | None:
    """Return operand and constant of an operator of arithmetic; None for anything else."""
    value = _value(var, definitions)
    if op_name(value) != kind:
        return None
    number = constant(value.args[1])
    return None if number is None else (value.args[0], number)


def _per_channel(numbers: NDArray[Any], rank: int) -> bool:
    """Whether a constant has one number, or one for each channel of a tensor of this rank."""
    shape = (1,) * (rank - numbers.ndim) + numbers.shape
    return all(size == 1 or axis == 1 for axis, size in enumerate(shape))


def _quantizing(
    var: Expr, definitions: Mapping[Expr, Any], params: list[Expr], symbol: str, position: int
) -> Quantizing | None:
    """Read backwards how `var` is quantized; None where that is no input of the network."""
    cast = _value(_plain(var, definitions), definitions)
    if op_name(cast) != "astype" or dtype_of(cast.args[0]) != "float32":
        return None
    clip = _value(cast.args[0], definitions)
    if op_name(clip) != "clip":
        return None
    low, high = clip_limits(clip)
    at, zero = clip.args[0], 0
    if (offset := _step(at, "add", definitions)) is not None:
        at, zero = offset[0], int(offset[1].item())
    floor = _value(at, definitions)
    if op_name(floor) != "floor":
        return None
    half = _step(floor.args[0], "add", definitions)
    if half is None or half[1].size != 1 or half[1].item() != 0.5:
        return None
    scaled = _step(half[0], "multiply", definitions)
    if scaled is None or scaled[1].size != 1:
        return None
    source = _plain(scaled[0], definitions)
    parameter = next((i for i, param in enumerate(params) if param == source), None)
    if parameter is None:
        return None
    return Quantizing(
        source=str(source.name),
        parameter=parameter,
        program=symbol,
        position=position,
        multiplier=float(scaled[1].item()),
        zero_point=zero,
        qmin=int(low),
        qmax=int(high),
    )


def _dequantizing(
    var: Expr, definitions: Mapping[Expr, Any], outputs: Mapping[Expr, tuple[str, int]]
) -> Dequantizing | None:
    """Read backwards how a result is made of an output; None where it is more than scaled."""
    scaled = _step(_plain(var, definitions), "multiply", definitions)
    if scaled is None or not _per_channel(scaled[1], len(static_shape(scaled[0]))):
        return None
    at, zero = _plain(scaled[0], definitions), 0
    if (offset := _step(at, "subtract", definitions)) is not None and offset[1].size == 1:
        at, zero = _plain(offset[0], definitions), int(offset[1].item())
    cast = _value(at, definitions)
    if op_name(cast) != "astype" or dtype_of(cast.args[0]) not in ("int8", "int32"):
        return None
    source = _plain(cast.args[0], definitions)
    if source not in outputs:
        return None
    program, position = outputs[source]
    scale = tuple(float(number) for number in np.ravel(scaled[1]))
    return Dequantizing(program=program, position=position, scale=scale, zero_point=zero)
