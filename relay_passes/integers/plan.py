"""QuantPlan: what quantization chose, as the integers that a machine computes with.

A chooser returns real scales. `make_plan` turns them into a plan once, and whatever comes later
reads the plan: `Quantize` writes its scales into the graph, `Requantize` takes every shift, every
multiplier and every factor of a residual from it. A plan can be printed, and written as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from relay_passes.integers.steps import StepsPlan, integer
from relay_passes.params import FULL_LIMIT, Granularity, QuantParams, Requant
from relay_passes.scales.bit_widths import Widths
from vta_config.errors import ArtifactError, CalibrationError, FlowError

#: Characters that a sentence shows of what is wrong inside a plan.
_SHOWN_CHARS: Final = 200
_HINT: Final = "make the plan for this graph, with the same options"


@dataclass(frozen=True, slots=True, kw_only=True)
class SumPlan:
    """How integers add two tensors: (first << first_shift) + multiplier * (second << second_shift).

    Parameters
    ----------
    first, second : str
        The tensors; an accumulator comes first.
    multiplier : tuple[int, ...]
        One, or one per block or channel; 0: the second is less than half a unit, and left out.
    first_shift, second_shift : tuple[int, ...]
        Left shifts to the finer of both scales; one, or one per block or channel.

    Raises
    ------
    CalibrationError
        When a number is below 0, or a tensor is both multiplied and shifted.
    """

    first: str
    second: str
    multiplier: tuple[int, ...] = (1,)
    first_shift: tuple[int, ...] = (0,)
    second_shift: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        """Check the integers."""
        numbers = (*self.multiplier, *self.first_shift, *self.second_shift)
        if not (self.multiplier and self.first_shift and self.second_shift) or min(numbers) < 0:
            raise CalibrationError(
                f"{self.first} + {self.second}",
                "must have multipliers and left shifts of at least 0",
                got=(self.multiplier, self.first_shift, self.second_shift),
                hint="choose other scales",
            )
        if set(self.multiplier) != {1} and any((*self.first_shift, *self.second_shift)):
            raise CalibrationError(
                f"{self.first} + {self.second}",
                "must be multiplied or shifted, not both",
                got=(self.multiplier, self.first_shift, self.second_shift),
                hint="choose other scales",
            )

    @property
    def left_out(self) -> bool:
        """Whether the second tensor is too small to be seen in the sum."""
        return not any(self.multiplier)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlan:
    """How one accumulator becomes an int8 tensor.

    Parameters
    ----------
    name : str
        The layer's.
    inputs : tuple[str, ...]
        The int8 tensors of which the accumulator is made: data first, then residuals.
    operators : tuple[str, ...]
        Tensors of the operators that the accumulator takes in, in order: summands, sums, ReLU.
    output : str
        The int8 tensor; "" for an accumulator that stays one (logits).
    requant : Requant, optional
        Multiplier and shift, one, or one per block or channel; None without an output.
    """

    name: str
    inputs: tuple[str, ...]
    operators: tuple[str, ...]
    output: str = ""
    requant: Requant | None = None

    def __post_init__(self) -> None:
        """Check that an output is requantized.

        Raises
        ------
        CalibrationError
            When there is an output without `Requant`, or one without output.
        """
        if bool(self.output) != (self.requant is not None):
            raise CalibrationError(
                f"{self.name}.requant",
                "must be given with an output, and only then",
                got=f"output {self.output!r}, {self.requant}",
                hint="give both or none",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantPlan:
    """The integers of a quantized model; `make_plan` makes it.

    Parameters
    ----------
    tensors : dict[str, QuantParams]
        Activations by tensor name, the input included. A fused tensor has a scale here that nothing
        uses: it stays an accumulator.
    weights : dict[str, QuantParams]
        Weights by the name of the convolution or dense tensor that uses them.
    block : int
        Output channels that share a number, for numbers one per block.
    layers : tuple[LayerPlan, ...]
        In the order of the graph.
    sums : dict[str, SumPlan]
        By the tensor that a sum makes.
    host : dict[str, str]
        Operators with an integer implementation that are left to the host as floats, and why.
    floats : dict[str, str]
        Tensors that the host quantizes, by way of floats, from integers, and why.
    steps : dict[str, StepsPlan]
        Tensors that integers make of int8 tensors element by element, and how.
    """

    tensors: Mapping[str, QuantParams]
    weights: Mapping[str, QuantParams]
    block: int = 16
    layers: tuple[LayerPlan, ...] = ()
    sums: Mapping[str, SumPlan] = field(default_factory=dict)
    host: Mapping[str, str] = field(default_factory=dict)
    floats: Mapping[str, str] = field(default_factory=dict)
    steps: Mapping[str, StepsPlan] = field(default_factory=dict)

    def by_output(self) -> dict[str, LayerPlan]:
        """Return the layers that make an int8 tensor, by its name."""
        return {layer.output: layer for layer in self.layers if layer.output}

    def accumulator_scales(self, layer: LayerPlan) -> tuple[float, ...]:
        """Return the scales of a layer's accumulator: those of its input times its weight's.

        Without a weight, the scale at which it becomes int8.
        """
        products = [name for name in layer.operators if name in self.weights]
        if products:
            return tuple(
                self.tensors[source].scale[0] * scale
                for name, source in zip(products, layer.inputs, strict=False)
                for scale in self.weights[name].scale
            )
        if layer.requant is None:
            return ()
        (scale,) = self.tensors[layer.output].scale
        return tuple(float(ratio) * scale for ratio in layer.requant.ratio)

    def widths(self) -> dict[str, Widths]:
        """Return the bits of each layer, by the tensor that has its weights' name, in order."""
        result = {}
        for layer in self.layers:
            products = [name for name in layer.operators if name in self.weights]
            # Data comes before residuals, in the order of the products.
            for name, source in zip(products, layer.inputs, strict=False):
                result[name] = Widths(
                    weight_bits=self.weights[name].bits,
                    activation_bits=self.tensors[source].bits,
                )
        return result

    # ---- JSON ----------------------------------------------------------------------------------
    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; `from_json` reads them back."""
        return {
            "block": self.block,
            "tensors": {name: _params_json(params) for name, params in self.tensors.items()},
            "weights": {name: _params_json(params) for name, params in self.weights.items()},
            "layers": [
                {
                    "name": x.name,
                    "inputs": list(x.inputs),
                    "operators": list(x.operators),
                    "output": x.output,
                }
                | ({} if x.requant is None else _requant_json(x.requant))
                for x in self.layers
            ],
            "sums": {
                name: {
                    "first": x.first,
                    "second": x.second,
                    "multiplier": list(x.multiplier),
                    "first_shift": list(x.first_shift),
                    "second_shift": list(x.second_shift),
                }
                for name, x in self.sums.items()
            },
            "host": dict(self.host),
            "floats": dict(self.floats),
            "steps": {name: x.to_json() for name, x in self.steps.items()},
        }

    @classmethod
    def from_json(cls, values: Any, where: str = "quantization plan") -> QuantPlan:
        """Read what `to_json` wrote.

        Raises
        ------
        ArtifactError
            When it is anything else.
        """
        try:
            return cls(
                block=integer(values["block"]),
                tensors={str(k): _params(v) for k, v in values["tensors"].items()},
                weights={str(k): _params(v) for k, v in values["weights"].items()},
                layers=tuple(_layer(v) for v in values["layers"]),
                sums={str(k): _sum(v) for k, v in values["sums"].items()},
                host={str(k): str(v) for k, v in values["host"].items()},
                floats={str(k): str(v) for k, v in values["floats"].items()},
                steps={str(k): StepsPlan.from_json(v) for k, v in values["steps"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, FlowError) as error:
            raise ArtifactError(
                where,
                "must be a quantization plan",
                got=f"{type(error).__name__}: {str(error)[:_SHOWN_CHARS]}",
                hint="compile it again",
            ) from None


def expanded(values: Iterable[int], channels: int, block: int, where: str) -> NDArray[np.int64]:
    """Return one number per channel, int64[channels], of one, one per block or one per channel.

    Parameters
    ----------
    values : iterable of int
    channels, block : int
        How many output channels, and how many of them a block has.
    where : str
        The layer or tensor, for the sentence.

    Raises
    ------
    CalibrationError
        When they are as many as neither.
    """
    numbers = np.asarray(tuple(values), np.int64)
    if len(numbers) == 1:
        return np.full(channels, numbers[0])
    if len(numbers) not in (channels, -(-channels // block)):
        must = f"must have {len(numbers)} channels, or blocks of {block}"
        raise mismatch(where, must, f"{channels} channels")
    return numbers if len(numbers) == channels else np.repeat(numbers, block)[:channels]


def grouped(values: NDArray[np.int64], block: int) -> NDArray[np.int64]:
    """Return the shortest form of one number per channel: one, one per block, or themselves."""
    if (values == values[0]).all():
        return values[:1]
    starts = values[::block]
    return starts if (values == np.repeat(starts, block)[: len(values)]).all() else values


def mismatch(where: str, must: str, got: object) -> CalibrationError:
    """Return the error of a graph that its plan was not made for.

    Parameters
    ----------
    where : str
        The layer or tensor.
    must : str
        What the plan says of it.
    got : object
        What the graph has.
    """
    return CalibrationError(where, f"{must}, as its quantization plan says", got=got, hint=_HINT)


def _params_json(params: QuantParams) -> dict[str, Any]:
    return {
        "scale": list(params.scale),
        "bits": params.bits,
        "signed": params.signed,
        "granularity": params.granularity,
        **({} if params.limit == FULL_LIMIT else {"limit": params.limit}),
        **({"zero_point": params.zero_point} if params.zero_point else {}),
    }


def _requant_json(requant: Requant) -> dict[str, Any]:
    return {
        "multiplier": list(requant.multiplier),
        "shift": list(requant.shift),
        "ratio": [float(ratio) for ratio in requant.ratio],
        "relative_error": requant.relative_error,
    }


def _integers(values: Any) -> tuple[int, ...]:
    return tuple(integer(value) for value in values)


def _params(values: Any) -> QuantParams:
    if values["granularity"] not in get_args(Granularity):
        raise ValueError(f"{values['granularity']!r} is no granularity")
    return QuantParams(
        scale=tuple(float(s) for s in values["scale"]),
        bits=integer(values["bits"]),
        signed=bool(values["signed"]),
        granularity=values["granularity"],
        limit=integer(values.get("limit", FULL_LIMIT)),
        zero_point=integer(values.get("zero_point", 0)),
    )


def _layer(values: Any) -> LayerPlan:
    requant = None
    if "shift" in values:
        requant = Requant(
            multiplier=_integers(values["multiplier"]),
            shift=_integers(values["shift"]),
            ratio=tuple(Fraction(float(ratio)) for ratio in values["ratio"]),
        )
    return LayerPlan(
        name=str(values["name"]),
        inputs=tuple(str(name) for name in values["inputs"]),
        operators=tuple(str(name) for name in values["operators"]),
        output=str(values["output"]),
        requant=requant,
    )


def _sum(values: Any) -> SumPlan:
    return SumPlan(
        first=str(values["first"]),
        second=str(values["second"]),
        multiplier=_integers(values["multiplier"]),
        first_shift=_integers(values["first_shift"]),
        second_shift=_integers(values["second_shift"]),
    )
