"""Name the tensors of a float model: by the model's own names, else by operator."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tvm import relax

from relay_passes.graph import Expr, GraphBuilder, GraphPass, Module, op_name, read_graph, rewrite
from relay_passes.names import Names, given_names, layer_names, with_layer_names
from relay_passes.operators.calls import split_bias

#: Names the importer makes up; others are kept.
_ANONYMOUS: Final = re.compile(r"(lv|gv)\d*$")
#: What a tensor is called when the model does not say, by operator; a number follows.
_DEFAULT_NAMES: Final = {
    "nn.conv2d": "conv",
    "matmul": "dense",
    "nn.max_pool2d": "maxpool",
    "mean": "avgpool",
    "nn.avg_pool2d": "avgpool",
    "concat": "concat",
    "nn.softmax": "softmax",
}
#: Operators that change a tensor without being layers: named after their (first) operand.
_SUFFIXES: Final = {
    "nn.relu": ".relu",
    "clip": ".clip",
    "add": ".add",
    "reshape": ".flat",
    "nn.batch_norm": ".bn",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NameTensors(GraphPass):
    """Give every tensor of the float graph a clear, unique name.

    A name that the importer restored (``layer2.0.conv1`` on the convolution) is kept. A layer's
    bias add takes the layer's name, since that is the tensor one quantizes, and the sum before it
    ``NAME.acc``; a ReLU is ``NAME.relu``, a residual sum ``NAME.add``. A number follows a name that
    another tensor has; the layer of a ``NAME.acc`` is kept beside it (`relay_passes.names`).
    """

    def transform(self, mod: Module) -> Module:
        """Return `mod` with other variable names."""
        graph = read_graph(mod)
        definitions = graph.definitions()
        biased = {
            found[0]: b.var
            for b in graph.bindings
            if op_name(b.value) == "add"
            and (found := split_bias(b.value)) is not None
            and op_name(definitions.get(found[0])) in ("nn.conv2d", "matmul")
        }
        layer_of = {bias: layer for layer, bias in biased.items()}
        counts: dict[str, int] = {}
        given_by_model = given_names(mod)
        # The model's own names come before those made here.
        left = {*(given_by_model or ())} - {str(var.name) for var in graph.params}
        names = Names((*left, *(str(var.name) for var in graph.params)))
        names_of_layers: dict[Expr, str] = {}
        layers = layer_names(mod)

        def is_given(name: str) -> bool:
            if given_by_model is None:
                return not _ANONYMOUS.match(name)
            return name in given_by_model

        def own(var: Expr, name: str) -> str:
            if name != var.name or name not in left:
                return names.fresh(name)
            left.discard(name)
            return name

        def name_of(var: Expr, value: Expr) -> str:
            kind = op_name(value)
            given = str(var.name) if is_given(var.name) else ""
            if kind in _SUFFIXES and not given.endswith(_SUFFIXES[kind]):
                source = next((a for a in value.args if isinstance(a, relax.Var)), None)
                if source is not None:
                    return f"{source.name}{_SUFFIXES[kind]}"
            if given:
                return given
            base = _DEFAULT_NAMES.get(kind, kind.rsplit(".", 1)[-1] or "tensor")
            counts[base] = counts.get(base, -1) + 1
            return f"{base}{counts[base]}"

        def visit(builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
            if var in layer_of:
                return builder.emit(value, names_of_layers[layer_of[var]])
            name = own(var, name_of(var, value))
            if var in biased:
                layer = names_of_layers[var] = name
                name = names.fresh(f"{layer}.acc")
                layers[name] = layer
            return builder.emit(value, name)

        return with_layer_names(rewrite(mod, visit), layers)
