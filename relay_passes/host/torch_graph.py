"""Run a float graph in PyTorch, operator by operator, for what needs derivatives.

The graph comes from Relax and not from a table of known networks, so any network that consists of
operators with a line in `torch_operators.OPERATORS` runs here. PyTorch is optional (``pip install
vta-flow[torch]``): nothing here imports it before `import_torch`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax

from relay_passes.graph import (
    Expr,
    Graph,
    Module,
    constant,
    op_name,
    read_graph,
)
from relay_passes.host.torch_operators import OPERATORS, SOFTMAX, is_known
from relay_passes.operators.calls import WEIGHT_AXIS
from vta_config.errors import ConfigError, UnsupportedModelError

#: PyTorch ships types, but is optional: its tensors and the module itself are `Any` here.
Tensor = Any
#: (name of the operator's result, its operands) -> the operands to use in their place.
Before = Callable[[str, list[Any]], list[Any]]
#: (name of a tensor, its value) -> the value to use in its place.
After = Callable[[str, Tensor], Tensor]
#: Name of an operator's result -> what computes it in the operator's place, from its operands.
Instead = Mapping[str, Callable[[list[Any]], Any]]


def import_torch(user: str, *, hint: str = "") -> Any:
    """Return the module ``torch``.

    Parameters
    ----------
    user : str
        What needs it, for the error.
    hint : str, optional
        What else one may do.

    Raises
    ------
    ConfigError
        When it is not installed.
    """
    try:
        import torch
    except ImportError:
        raise ConfigError(
            user,
            "must have PyTorch for its derivatives",
            got="no module torch",
            hint='pip install "vta-flow[torch]"' + (f", or {hint}" if hint else ""),
        ) from None
    return torch


def usable_device(torch: Any, name: str, user: str) -> str:
    """Return a device's name as it is, or say that there is none.

    Parameters
    ----------
    torch : module
    name : str
        ``cpu``, ``cuda``, ``cuda:1``.
    user : str
        What computes there, for the error.

    Raises
    ------
    ConfigError
        When PyTorch finds no such device here.
    """
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError):
        raise ConfigError(
            f"{user}.device",
            "must be a device that PyTorch finds here",
            got=name,
            hint="use cpu",
        ) from None
    return name


def exact_convolutions(torch: Any) -> Any:
    """Return a context in which a GPU convolves in float32, the same way every time.

    Otherwise it may round to 11 bits what it multiplies, and take another algorithm each time.
    """
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One operator: its result's name, the call, and what it reads.

    An operand is a str (a tensor's name), a list of operands, or a value.
    """

    name: str
    call: Expr
    operands: list[Any]
    reads: tuple[str, ...]


def only_input(graph: Graph, hint: str) -> Expr:
    """Return the single parameter of a graph.

    Raises
    ------
    UnsupportedModelError
        When it has several.
    """
    if len(graph.params) != 1:
        raise UnsupportedModelError(
            "model input",
            "must be one tensor, to learn or to distill",
            got=f"{len(graph.params)}: {', '.join(str(p.name) for p in graph.params)}",
            hint=hint,
        )
    return graph.params[0]


class TorchGraph:
    """A float graph in PyTorch.

    Parameters
    ----------
    mod : IRModule
        Float module with one parameter; BatchNorm may be folded or not.
    torch : module
        As `import_torch` returns it.
    device : str
        Where weights and constants lie, and images must lie.
    dtype : torch.dtype, optional
        Of weights and constants; float32 by default.
    trainable : bool
        Whether `weights` have gradients.
    hint : str
        What to do when the graph has an operator that is not known here.

    Attributes
    ----------
    weights : dict[str, Tensor]
        Weight of each layer that has a constant one, by the name of its result; a leaf. Another
        tensor put here is used from then on.
    input_name : str
        Name of the module's parameter.
    result_names : tuple of str
        Names of what the module returns.

    Raises
    ------
    UnsupportedModelError
        When the graph has an operator that is not known here.
    """

    def __init__(
        self,
        mod: Module,
        torch: Any,
        *,
        device: str = "cpu",
        dtype: Any = None,
        trainable: bool = True,
        hint: str = "choose what needs no derivatives",
    ) -> None:
        """Read the graph and copy its constants to the device."""
        self._torch, self._device = torch, device
        self._dtype = dtype or torch.float32
        graph: Graph = read_graph(mod)
        param = only_input(graph, hint)
        self.input_name = str(param.name)
        self._names: dict[Expr, str] = {param: self.input_name}
        self.weights: dict[str, Tensor] = {}
        self._steps: dict[str, _Step] = {}
        for binding in graph.bindings:
            self._add(binding.var, binding.value, hint)
        for name in self.weights:
            self.weights[name].requires_grad_(trainable)
        self.result_names = tuple(self._names[var] for var in graph.results)
        self._orders: dict[tuple[frozenset[str], tuple[str, ...]], list[tuple[_Step, Any]]] = {}

    def _add(self, var: Expr, value: Expr, hint: str) -> None:
        name = str(var.name)
        if name in self._steps or name == self.input_name:  # unfolded modules may repeat a name
            name = next(n for k in range(2, 1 << 30) if (n := f"{name}#{k}") not in self._steps)
        self._names[var] = name
        kind = op_name(value)
        if isinstance(value, relax.Var) or constant(value) is not None:
            operands = [self._operand(value)]
        elif isinstance(value, relax.TupleGetItem):
            operands = [self._operand(value.tuple_value)]
        elif isinstance(value, relax.Tuple):
            operands = [self._operand(field) for field in value.fields]
        elif kind in OPERATORS and is_known(value):
            operands = [self._operand(arg) for arg in value.args]
            if kind in WEIGHT_AXIS and constant(value.args[1]) is not None:
                self.weights[name] = operands[1]
        else:
            form = " in training mode" if kind == "nn.batch_norm" else " in this form"
            of = form if kind in OPERATORS else ""
            raise UnsupportedModelError(
                name,
                "must be an operator that has derivatives here",
                got=(kind or type(value).__name__) + of,
                hint=hint,
            )
        reads = tuple(_names_in(operands))
        self._steps[name] = _Step(name=name, call=value, operands=operands, reads=reads)

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return each result, before a softmax of its own, as float32[N, values].

        Parameters
        ----------
        images : float32[N, C, H, W]
        """
        logits = [self._before_softmax(name) for name in self.result_names]
        values = self.run({self.input_name: images}, logits)
        return [values[name].reshape(len(values[name]), -1) for name in logits]

    def run(
        self,
        given: Mapping[str, Tensor],
        wanted: Iterable[str],
        *,
        before: Before | None = None,
        after: After | None = None,
        instead: Instead | None = None,
    ) -> dict[str, Tensor]:
        """Return tensors by name, computed from others; only what they need is computed.

        Parameters
        ----------
        given : dict[str, Tensor]
            Known tensors, usually the input. What they replace is not computed.
        wanted : iterable of str
        before : callable (name, operands) -> operands, optional
            Sees every operator before it is computed, and may change what it reads: swing
            convolution, quantized inputs of a layer, another bias.
        after : callable (name, value) -> value, optional
            Sees every tensor that was computed, and may change it for all that read it.
        instead : dict[str, callable (operands) -> value], optional
            Computes some operators in their place.

        Raises
        ------
        UnsupportedModelError
            When a tensor that is needed is neither given nor computed here.
        """
        wanted = tuple(wanted)
        values: dict[str, Any] = dict(given)
        instead = instead or {}
        for step, dead in self._order(frozenset(given), wanted):
            operands = [_found(operand, values) for operand in step.operands]
            if step.name in self.weights:
                operands[1] = self.weights[step.name]
            if before is not None:
                operands = before(step.name, operands)
            compute = instead.get(step.name)
            value = self._compute(step.call, operands) if compute is None else compute(operands)
            values[step.name] = value if after is None else after(step.name, value)
            for name in dead:
                del values[name]
        return {name: values[name] for name in wanted}

    def call_of(self, name: str) -> Expr:
        """Return the Relax expression that computes a tensor."""
        return self._steps[name].call

    def reads_of(self, name: str) -> tuple[str, ...]:
        """Return the names of the tensors that an operator reads."""
        return self._steps[name].reads

    def tensor(self, values: Any) -> Tensor:
        """Return an array as a float32 tensor on the graph's device."""
        return self._torch.tensor(values, dtype=self._torch.float32, device=self._device)

    def named(self, kind: str) -> tuple[str, ...]:
        """Return the names of the results of all operators of a kind, e.g. ``nn.batch_norm``."""
        return tuple(name for name, step in self._steps.items() if op_name(step.call) == kind)

    def _order(self, given: frozenset[str], wanted: tuple[str, ...]) -> list[tuple[_Step, Any]]:
        """Return the steps from `given` to `wanted`, each with the tensors that die after it."""
        key = (given, wanted)
        if key not in self._orders:
            needed, pending = set[str](), [n for n in wanted if n not in given]
            while pending:
                name = pending.pop()
                if name in needed:
                    continue
                if name not in self._steps:
                    raise UnsupportedModelError(
                        name,
                        "must be given, or be a tensor of the graph",
                        got=f"only {', '.join(sorted(given)) or 'nothing'} given",
                        hint="name a tensor of this module",
                    )
                needed.add(name)
                pending += [n for n in self._steps[name].reads if n not in given]
            steps = [step for name, step in self._steps.items() if name in needed]
            alive, order = {*given, *wanted}, list[tuple[_Step, Any]]()
            for step in reversed(steps):
                dead = tuple({*step.reads, step.name} - alive)
                alive.update(step.reads)
                order.append((step, dead))
            self._orders[key] = order[::-1]
        return self._orders[key]

    def _before_softmax(self, name: str) -> str:
        step = self._steps.get(name)
        return step.reads[0] if step is not None and op_name(step.call) in SOFTMAX else name

    def _compute(self, call: Expr, operands: list[Any]) -> Any:
        if isinstance(call, relax.TupleGetItem):
            return operands[0][int(call.index)]
        if not isinstance(call, relax.Call):
            return operands if isinstance(call, relax.Tuple) else operands[0]
        return OPERATORS[op_name(call)](self._torch, call, operands)

    def _operand(self, arg: Expr) -> Any:
        if isinstance(arg, relax.Var):
            return self._names[arg]
        if isinstance(arg, relax.Tuple):
            return [self._operand(field) for field in arg.fields]
        value = constant(arg)
        if value is None:
            return arg
        tensor = self._torch.from_numpy(np.array(value)).to(self._device)
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor


def _names_in(operands: Collection[Any]) -> Iterable[str]:
    for operand in operands:
        if isinstance(operand, str):
            yield operand
        elif isinstance(operand, list):
            yield from _names_in(operand)


def _found(operand: Any, values: Mapping[str, Any]) -> Any:
    """Return an operand's values in one run."""
    if isinstance(operand, str):
        return values[operand]
    return [_found(o, values) for o in operand] if isinstance(operand, list) else operand
