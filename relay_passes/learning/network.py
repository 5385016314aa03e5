"""A float graph in PyTorch whose tensors and weights are rounded as the machine's integers are.

Layers multiply real numbers: integers times their scales. A weight's integer is one of two, chosen
by a number that is learned; a gradient goes through the choice and through rounding as if there
were none (straight through), and where a clip cuts off there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Module, constant, op_name, read_graph
from relay_passes.host.torch_graph import TorchGraph
from relay_passes.learning.structure import Structure
from relay_passes.numerics import exact_log2, round_half_up
from relay_passes.operators.calls import WEIGHT_AXIS, weight_of_rows, weight_rows
from relay_passes.scales.scales import Scales

Tensor = Any

#: How near to the middle between two integers a soft bit starts at most.
_EDGE = 0.05
#: What makes halves round up, in units; no sum of integers is as near to a half without being one.
_NUDGE = 2.0**-14
#: The same for sums of integers, in units of the accumulator; times b it is below one.
_ABOVE = 0.1
#: A bias is learned in this share of what its output holds.
_BIAS_SHARE = 1 / 64


class Network:
    """The rounded network, its numbers learned.

    Parameters
    ----------
    mod : IRModule
        Float module.
    torch : module
    structure : Structure
    scales : Scales
        At the start.
    weights : dict[str, int8[O, K]]
        At the start.
    biases : dict[str, float64[O]]
        At the start, by add.
    block : int
        Output channels that share a scale.
    device : str

    Attributes
    ----------
    scale_logs : dict[str, Tensor]
        Logarithm of what the scales of tied tensors are multiplied by, float32[], by tensor.
    factor_logs : list of Tensor
        Logarithm of the factors of each channel group, float32[C].
    row_logs : dict[str, Tensor]
        The same of the weight scales of layers whose accumulators become no integers, float32[O].
    bits : dict[str, Tensor]
        What is learned of each weight, by layer: from 0 on it is the larger of two integers, and
        its place between them is the bit and a half.
    offsets : dict[str, Tensor]
        What is added to biases, float32[O], by add.
    """

    def __init__(
        self,
        mod: Module,
        torch: Any,
        structure: Structure,
        scales: Scales,
        weights: Mapping[str, NDArray[np.int8]],
        *,
        biases: Mapping[str, NDArray[np.float64]],
        block: int,
        device: str = "cpu",
    ) -> None:
        """Start from what was chosen and rounded."""
        self.torch, self.structure, self.scales = torch, structure, scales
        self.graph = TorchGraph(mod, torch, device=device, trainable=False)
        self._device, self._block = device, block
        calls = {str(b.var.name): b.value for b in read_graph(mod).bindings}
        self._group = structure.group_of()
        self.scale_logs = {name: self._leaf(0.0) for name in dict.fromkeys(structure.tied.values())}
        self.factor_logs = [self._leaf(np.zeros(g.channels)) for g in structure.groups]
        self.bits: dict[str, Tensor] = {}
        self._bases: dict[str, Tensor] = {}
        self.row_logs: dict[str, Tensor] = {}
        self._start: dict[str, Tensor] = {}
        self._axis: dict[str, int] = {}
        self._halves_off: dict[str, Tensor] = {}
        for name, (source, end) in structure.layers.items():
            call, rows = calls[name], weights[name]
            scale = scales.weights[name].scales(len(rows), block)
            near, limit = weight_rows(call) / scale[:, np.newaxis], scales.weights[name].qmax
            base = np.clip(np.where(near < rows, rows - 1.0, rows), -limit, limit - 1.0)
            bits = np.clip(near - base - 0.5, -0.5, 0.5)
            bits = np.where(rows > base, np.maximum(bits, _EDGE), np.minimum(bits, -_EDGE))
            self.bits[name] = self._leaf(weight_of_rows(call, bits.astype(np.float32)))
            self._bases[name] = self._tensor(weight_of_rows(call, base.astype(np.float32)))
            self._axis[name] = WEIGHT_AXIS[op_name(call)]
            unit = scales.tensors[source].scale[0] if source else 1.0
            self._start[name] = self._tensor(scale * unit)
            if end:
                self._halves_off[name] = self._half_off(scale * unit, end)
            if name in structure.free:
                self.row_logs[name] = self._leaf(np.zeros(len(rows)))
        self.offsets: dict[str, Tensor] = {}
        self._biases: dict[str, tuple[int, Tensor, tuple[int, ...], float, str]] = {}
        settled = {structure.layers[layer][1] for layer in structure.biases}
        self._halves = structure.quantized - settled
        for layer, add in structure.biases.items():
            call = calls[add]
            bias = biases[add]
            place = 1 if constant(call.args[1]) is not None else 0
            shape = [1] * len(call.ty.shape.values)
            shape[1] = len(bias)
            self.offsets[add] = self._leaf(np.zeros(len(bias)))
            self._biases[add] = place, self._tensor(bias), tuple(shape), self._unit(layer), layer

    def _half_off(self, unit: NDArray[np.float64], end: str) -> Tensor:
        """Return what the half before a shift, a whole number, is too large by, float32[O].

        Parameters
        ----------
        unit : float64[O]
            Of the accumulator.
        end : str
            What it becomes.
        """
        params = self.scales.tensors[end]
        ratio = params.scale[0] / unit
        exact = (params.zero_point + 0.5) * ratio
        shifted = [exact_log2(float(r)) is not None for r in ratio]
        return self._tensor(np.where(shifted, 0.0, round_half_up(exact) - exact))

    def _unit(self, layer: str) -> float:
        """Return what one unit of a bias's offset is."""
        end = self.structure.layers[layer][1]
        if end:
            params = self.scales.tensors[end]
            return params.scale[0] * params.levels * _BIAS_SHARE
        return 127.0 * float(self._start[layer].mean())

    def _tensor(self, values: Any) -> Tensor:
        return self.torch.tensor(np.asarray(values), dtype=self.torch.float32, device=self._device)

    def _leaf(self, values: Any) -> Tensor:
        return self._tensor(values).requires_grad_()

    # ---- what is learned now -----------------------------------------------------------------
    def scale_log(self, tensor: str) -> Tensor:
        """Return the logarithm of what a tensor's scale is multiplied by, float32[]."""
        return self.scale_logs[self.structure.tied[tensor]]

    def factor_log(self, tensor: str) -> Tensor:
        """Return the logarithms of the factors of a tensor's channels, float32[C] or 0."""
        place = self._group.get(tensor)
        return 0.0 if place is None else self.factor_logs[place]

    def tensor_unit(self, tensor: str) -> Tensor:
        """Return the real number that one unit of each channel is, float32[] or float32[C]."""
        scale = self.scales.tensors[tensor].scale[0]
        return scale * (self.scale_log(tensor) - self.factor_log(tensor)).exp()

    def integers(self, layer: str) -> Tensor:
        """Return a layer's weight in integers; gradients go straight through to its bits."""
        bits = self.bits[layer]
        hard = self._bases[layer] + (bits.detach() >= 0)
        return hard + (bits - bits.detach()) if bits.requires_grad else hard

    def keep_within(self) -> None:
        """Keep soft bits between the two integers that they choose from."""
        with self.torch.no_grad():
            for bits in self.bits.values():
                if bits.grad is not None:
                    bits.clamp_(-0.5, 0.5)

    def weight(self, layer: str) -> Tensor:
        """Return a layer's weight in real numbers."""
        source, axis = self.structure.layers[layer][0], self._axis[layer]
        integers = self.integers(layer)
        shape = [1] * integers.ndim
        shape[axis] = -1
        ratio = self._layer_unit(layer).reshape(shape)
        if source:
            unit = self.tensor_unit(source)
            if unit.ndim:
                shape[axis], shape[1 - axis] = 1, -1
                unit = unit.reshape(shape)
            ratio = ratio / unit
        return integers * ratio

    def _layer_unit(self, layer: str) -> Tensor:
        """Return the real number that one unit of the accumulator is, float32[O]."""
        source, end = self.structure.layers[layer]
        if end:
            log = self.scale_log(end) - self.factor_log(end)
        else:
            log = self.scale_log(source) if source else self._tensor(0.0)
            log = log + self.row_log(layer)
        return self._start[layer] * log.exp()

    def row_log(self, layer: str) -> Tensor:
        """Return the logarithms of what free weight scales are multiplied by, float32[O] or 0."""
        logs = self.row_logs.get(layer)
        if logs is None:
            return 0.0
        params = self.scales.weights[layer]
        if params.granularity == "channel":
            return logs
        return logs.mean() if params.granularity == "tensor" else self._block_means(logs)

    def _block_means(self, logs: Tensor) -> Tensor:
        parts = logs.split(self._block)
        return self.torch.cat([part.mean().expand(len(part)) for part in parts])

    def bias(self, add: str) -> NDArray[np.float64] | None:
        """Return a bias, float64[O]; None where none is learned."""
        if add not in self.offsets:
            return None
        _, bias, _, unit, _ = self._biases[add]
        offset = unit * self.offsets[add].detach().double()
        return np.asarray((bias.double() + offset).cpu().numpy())

    # ---- running it --------------------------------------------------------------------------
    def float_run(self, given: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
        """Return tensors of the float network; see `TorchGraph.run`."""
        with self.torch.no_grad():
            return self.graph.run(given, wanted)

    def run(
        self,
        given: Mapping[str, Tensor],
        wanted: Iterable[str],
        *,
        drop: float = 0.0,
        generator: Any = None,
    ) -> dict[str, Tensor]:
        """Return tensors of the rounded network, in real numbers.

        Parameters
        ----------
        given : dict[str, Tensor]
            Tensors of the graph; rounded already where they are integers.
        wanted : iterable of str
        drop : float
            Share of the values that are not rounded.
        generator : torch.Generator, optional
            Draws them.
        """

        def before(name: str, operands: list[Any]) -> list[Any]:
            if name in self.bits:
                return [operands[0], self.weight(name)]
            if name in self._biases:
                place, shape = self._biases[name][0], self._biases[name][2]
                operands[place] = self._bias(name).reshape(shape)
            return operands

        def after(name: str, value: Tensor) -> Tensor:
            if name in self.structure.quantized:
                value = self.rounded(name, value, drop=drop, generator=generator)
            return value

        return self.graph.run(given, wanted, before=before, after=after)

    def _bias(self, add: str) -> Tensor:
        """Return a bias that is a whole number of the accumulator's units, float32[O].

        So is the half that is added before a shift, which a multiplier b / 2^c makes inexact. A
        little more makes halves round up: sums of integers are never next to them.
        """
        _, bias, _, unit, layer = self._biases[add]
        one = self._layer_unit(layer)
        exact = bias + unit * self.offsets[add]
        with self.torch.no_grad():
            whole = (exact / one + 0.5).floor() + _ABOVE
            if layer in self._halves_off:
                whole += self._halves_off[layer]
            change = whole * one - exact
        return exact + change

    def rounded(
        self, tensor: str, value: Tensor, *, drop: float = 0.0, generator: Any = None
    ) -> Tensor:
        """Return a tensor rounded to its integers, in real numbers."""
        torch, params = self.torch, self.scales.tensors[tensor]
        low, high = params.qmin - params.zero_point, params.levels
        unit = self.tensor_unit(tensor).expand(value.shape[1])
        zeros = torch.zeros_like(unit)
        if tensor in self._halves:
            nudge = (unit.detach() * _NUDGE).reshape([1, -1, *[1] * (value.ndim - 2)])
            value = value + nudge
        result = torch._fake_quantize_learnable_per_channel_affine(
            value, unit, zeros, 1, low, high, 1.0
        )
        if drop:
            kept = torch.rand(value.shape, generator=generator, device=value.device) < drop
            result = torch.where(kept, value, result)
        return result
