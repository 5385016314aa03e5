"""What partition makes for a compiler: layers, checked where made.

`Subgraph`, `Layer` and `PostOp` describe integer work exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from relay_passes.operators.movement import Movement
from relay_passes.operators.operator import Operator, Window, macs
from relay_passes.operators.post_ops import POST_OPS, PostOpRow
from relay_passes.operators.table import OPERATORS
from vta_config.errors import UnsupportedModelError

TensorType: TypeAlias = Literal["int8", "int32"]
#: The least and the largest int8.
INT8_RANGE: Final = (-128, 127)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """Name a tensor at a subgraph's border, with its shape and type.

    Parameters
    ----------
    name : str
    shape : tuple[int, ...]
    dtype : {"int8", "int32"}
    low, high : int
        What an int8 input's numbers are in: machines of narrow operands need fewer steps then.
    """

    name: str
    shape: tuple[int, ...]
    dtype: TensorType
    low: int = INT8_RANGE[0]
    high: int = INT8_RANGE[1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PostOp:
    """One elementwise int32 operation on the accumulator; a layer's post-ops run in order.

    Parameters
    ----------
    op : str
        What is done: the name of a row of `operators.post_ops.POST_OPS`, which has the equation.
        All wrap at 32 bits, which none should reach.
    value : int or int32[C]
        Operand v of the equation, one number or one per output channel.
    tensor : str
        The int8 tensor t of the equation, of the output's shape; "" where it reads none.

    Raises
    ------
    UnsupportedModelError
        When the operation or its operand is not one of these.
    """

    op: str
    value: int | NDArray[np.int32]
    tensor: str = ""

    def __post_init__(self) -> None:
        """Check the operation and its operand."""
        if self.op not in POST_OPS:
            raise UnsupportedModelError(
                "PostOp.op",
                f"must be among {', '.join(POST_OPS)}",
                got=self.op,
                hint="leave the operator on the host",
            )
        if isinstance(self.value, np.ndarray):
            if self.value.dtype != np.int32 or self.value.ndim != 1:
                raise UnsupportedModelError(
                    f"PostOp({self.op}).value",
                    "must be int32[C]",
                    got=f"{self.value.dtype}{list(self.value.shape)}",
                    hint="one number per channel",
                )
            if not self.row.per_channel:
                several = sorted(row.name for row in POST_OPS.values() if row.per_channel)
                raise UnsupportedModelError(
                    f"PostOp({self.op}).value",
                    "must be one number",
                    got="a vector",
                    hint=f"only {', '.join(several)} accept one number per channel",
                )
        low, high = self.row.low, self.row.high
        if not (np.all(np.asarray(self.value) >= low) and np.all(np.asarray(self.value) <= high)):
            raise UnsupportedModelError(
                f"PostOp({self.op}).value",
                f"must be in [{low}, {high}]",
                got=self.value,
                hint="check the scales",
            )
        if self.row.residual != bool(self.tensor):
            residuals = [row.name for row in POST_OPS.values() if row.residual]
            raise UnsupportedModelError(
                f"PostOp({self.op}).tensor",
                f"must name a tensor for {' and '.join(residuals)} only",
                got=repr(self.tensor),
                hint="give the residual's name",
            )

    @property
    def row(self) -> PostOpRow:
        """The row of the table of post-ops."""
        return POST_OPS[self.op]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """One VTA operation: an accumulator is made by `kind`, changed by `post_ops` and stored.

    Parameters
    ----------
    name : str
        For messages and reports, e.g. ``"layer2.0.conv1"``.
    kind : str
        How the accumulator starts, by `operators.table`; ``add``: acc = 0 and every operand is an
        residual.
    inputs : tuple[str, ...]
        Tensors read: data first, then the summands' data, then the residuals (``add``: only
        these).
    output : str
        Tensor written.
    in_shape, out_shape : tuple[int, int, int, int]
        NCHW; dense: [N, I, 1, 1] and [N, O, 1, 1]; sum_pool2d: output [N, C, 1, 1].
    weight : int8[O, I, KH, KW] or None
        OIHW, I the channels of a group, or 1 where each has a kernel of its own; dense:
        [O, I, 1, 1]; others None.
    kernel, stride, dilation : tuple[int, int]
        (vertical, horizontal).
    padding : tuple[int, int, int, int]
        (top, left, bottom, right): `pad_value`, or minus infinity (-128) for max_pool2d.
    pad_value : int
        The number outside of a convolution's feature map: the zero point of what it reads.
    post_ops : tuple[PostOp, ...]
        Operations on the accumulator in order.
    out_dtype : {"int8", "int32"}
        int32: the exact accumulator, e.g. logits. int8: its low byte; the post-ops clip before.
    movement : Movement or None
        Of an operator that moves: what its data inputs' numbers become.
    zero_points : (int, int)
        Of an operator that multiplies its two data inputs: what is subtracted from each before.
    summands : tuple[Layer, ...]
        Further convolutions or dense layers, each an int32 accumulator without post-ops, that are
        added to this one's before its post-ops: a residual block's downsample convolution. Their
        outputs are written nowhere.

    Raises
    ------
    UnsupportedModelError
        When shapes, weight, post-ops and summands do not fit each other.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    output: str
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    weight: NDArray[np.int8] | None
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    pad_value: int = 0
    dilation: tuple[int, int] = (1, 1)
    post_ops: tuple[PostOp, ...] = ()
    out_dtype: TensorType = "int8"
    movement: Movement | None = None
    zero_points: tuple[int, int] = (0, 0)
    summands: tuple[Layer, ...] = ()

    def __post_init__(self) -> None:
        """Check that the layer is consistent."""
        if self.kind not in OPERATORS:
            self._fail("kind", f"must be among {', '.join(OPERATORS)}", self.kind)
        for label, shape in (("in_shape", self.in_shape), ("out_shape", self.out_shape)):
            if len(shape) != 4 or prod(shape) < 1:
                self._fail(label, "must be four positive numbers, NCHW", shape)
        if self.operator.has_weight != (self.weight is not None):
            kinds = [kind for kind, row in OPERATORS.items() if row.has_weight]
            names = f"{', '.join(kinds[:-1])} and {kinds[-1]}"
            self._fail("weight", f"must be given for {names} only", type(self.weight))
        if self.weight is not None:
            expected = (self.out_shape[1], self._channels_read(self.weight), *self.kernel)
            if self.weight.dtype != np.int8 or self.weight.shape != expected:
                got = f"{self.weight.dtype}{list(self.weight.shape)}"
                self._fail("weight", f"must be int8{list(expected)}", got)
        if self.operator.moves != (self.movement is not None):
            kinds = [kind for kind, row in OPERATORS.items() if row.moves]
            names = f"{', '.join(kinds[:-1])} and {kinds[-1]}"
            self._fail("movement", f"must be given for {names} only", type(self.movement).__name__)
        low, high = INT8_RANGE if self.operator.pads else (0, 0)
        if not low <= self.pad_value <= high:
            self._fail("pad_value", f"must be in [{low}, {high}]", self.pad_value)
        low, high = INT8_RANGE if self.operator.takes_factor else (0, 0)
        if not all(low <= zero <= high for zero in self.zero_points):
            self._fail("zero_points", f"must be in [{low}, {high}]", self.zero_points)
        if self.out_shape != self.computed_out_shape:
            self._fail("out_shape", f"must be {self.computed_out_shape}", self.out_shape)
        for product in self.summands:
            self._check_product(product)
        operands = tuple(op.tensor for op in self.post_ops if op.row.residual)
        data = (*self.data_inputs, *(product.inputs[0] for product in self.summands))
        expected_inputs = operands if self.operator.starts_empty else (*data, *operands)
        if self.inputs != expected_inputs or not self.inputs:
            self._fail("inputs", f"must be {expected_inputs or 'at least one'}", self.inputs)
        for op in self.post_ops:
            if isinstance(op.value, np.ndarray) and len(op.value) != self.out_shape[1]:
                must = f"must have {self.out_shape[1]} numbers"
                self._fail(f"post-op {op.op}", must, len(op.value))

    def _channels_read(self, weight: NDArray[np.int8]) -> int:
        """Return the input channels that an output channel must read."""
        channels = self.in_shape[1]
        if self.operator.by_group and weight.ndim == 4 and weight.shape[1]:
            groups, rest = divmod(channels, weight.shape[1])
            if not rest and groups and not self.out_shape[1] % groups:
                return int(weight.shape[1])
        return 1 if self.operator.by_channel else channels

    def _check_product(self, product: Layer) -> None:
        part = f"product {product.name}"
        if not (self.operator.adds_up and product.operator.adds_up):
            names = " or ".join(kind for kind, row in OPERATORS.items() if row.adds_up)
            must = f"must be a {names} layer added to another"
            self._fail(part, must, f"{product.kind} added to {self.kind}")
        if product.post_ops or product.summands or product.out_dtype != "int32":
            self._fail(part, "must be a bare int32 accumulator", product.out_dtype)
        if product.out_shape != self.out_shape:
            self._fail(part, f"must have out_shape {self.out_shape}", product.out_shape)

    def _fail(self, part: str, must: str, got: object) -> None:
        raise UnsupportedModelError(
            f"{self.name or 'layer'}.{part}", must, got=got, hint="leave the operator on the host"
        )

    @property
    def operator(self) -> Operator:
        """The row of its kind."""
        return OPERATORS[self.kind]

    @property
    def data_inputs(self) -> tuple[str, ...]:
        """The tensors that the accumulator starts with: one, with its factor, or all that move."""
        count = 2 if self.operator.takes_factor else 1
        return self.inputs[: count if self.movement is None else len(self.movement.shapes)]

    @property
    def window(self) -> Window:
        """Kernel, stride, dilation, padding and what stands there."""
        return Window(self.kernel, self.stride, self.dilation, self.padding, self.pad_value)

    @property
    def computed_out_shape(self) -> tuple[int, ...]:
        """The output shape that kind, input shape and window give, NCHW."""
        if self.movement is not None:
            return self.movement.shape
        weight_shape = None if self.weight is None else self.weight.shape
        return self.operator.out_shape(self.in_shape, self.window, weight_shape)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the layer and its summands, without padding to blocks."""
        own = 0 if self.weight is None else macs(self.out_shape, self.weight.shape)
        return own + sum(product.macs for product in self.summands)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subgraph:
    """One annotated function that the code generator receives.

    Parameters
    ----------
    symbol : str
        The function's global symbol.
    inputs, outputs : tuple[TensorSpec, ...]
        What crosses the border, in call order.
    layers : tuple[Layer, ...]
        In execution order.

    Raises
    ------
    UnsupportedModelError
        When a layer reads what no earlier layer wrote, or an output is never written.
    """

    symbol: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        """Check that every tensor is written once, before it is read."""
        known = {spec.name for spec in self.inputs}
        for layer in self.layers:
            for name in layer.inputs:
                if name not in known:
                    raise UnsupportedModelError(
                        f"{self.symbol}: {layer.name}",
                        "must read tensors written before it",
                        got=name,
                        hint="order the layers by data flow",
                    )
            if layer.output in known:
                raise UnsupportedModelError(
                    f"{self.symbol}: {layer.name}",
                    "must write a tensor that no other layer writes",
                    got=layer.output,
                    hint="name every tensor once",
                )
            known.add(layer.output)
        for spec in self.outputs:
            if spec.name not in known:
                raise UnsupportedModelError(
                    f"{self.symbol}: {spec.name}",
                    "must be written by a layer",
                    hint="check the function's outputs",
                )
