"""TVM 0.9's `relay.quantize`, integer for integer, as a pass over Relax: the baseline.

Relay's quantization runs four rewrites over a float network whose BatchNorms are folded
(`nodes.py`, `fold_scales.py`):

1. *partition*: where a convolution's section ends, ``cast_hint(int8)`` and ``stop_fusion`` mark
   that the value will be stored in 8 bits;
2. *annotate*: ``simulated_quantize`` nodes are put before operands, of kind INPUT (8 bits), WEIGHT
   (8 bits, biases too) or ACTIVATION (32 bits); a node with several users is quantized once;
3. *calibrate*: activations get the scale ``global_scale / 2^(nbit − 1)`` everywhere, constants
   ``2^⌈log2 max|w|⌉ / 2^(nbit − 1)`` (`power2`) or ``max|w| / 2^(nbit − 1)`` (`max`);
4. *realize*: integers. A change of scale by 2^n is a shift (2^(n−1) added first when
   `round_for_shift`), any other a 32-bit fixed-point multiplication; then a clip to
   ±(2^(nbit − 1) − 1) — but a ``cast_hint`` without ``simulated_quantize`` wraps: what a user of
   Relay gets from the last residual sum.

Source: the documented behaviour and sources of Apache TVM 0.9 (python/tvm/relay/quantize,
src/relay/quantize, src/relay/qnn/utils.cc), restated here. What `StockRelay` leaves out of Relay:
calibration on data (`kl_divergence`, `percentile`), `do_simulation`, `debug_enabled_ops` and the
partitioned output format. Casts that change nothing and ``stop_fusion`` are not written.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relay_passes.graph import GraphPass, Module
from relay_passes.stock_relay.annotate import Annotate
from relay_passes.stock_relay.fold_scales import fold_scales
from relay_passes.stock_relay.mark_sections import MarkSections
from relay_passes.stock_relay.nodes import Node, read_nodes, rewrite, write_nodes
from relay_passes.stock_relay.options import StockOptions
from relay_passes.stock_relay.realize import Realize


@dataclass(frozen=True, slots=True)
class StockRelay(GraphPass):
    """Quantize a float Relax module as TVM 0.9's Relay did.

    Parameters
    ----------
    options : StockOptions
        Relay's qconfig.

    Examples
    --------
    >>> quantized = StockRelay(StockOptions(global_scale=4.0))(module)  # doctest: +SKIP
    """

    options: StockOptions = field(default_factory=StockOptions)

    def transform(self, mod: Module) -> Module:
        """Return the quantized module.

        Parameters
        ----------
        mod : IRModule
            ``main`` is a float network in NCHW with constant weights, BatchNorm folded or not.

        Raises
        ------
        UnsupportedModelError
            When Relay could not quantize the network either, or it has control flow.
        """
        return write_nodes(quantize_nodes(fold_scales(read_nodes(mod)), self.options), mod)


def quantize_nodes(graph: Node, options: StockOptions) -> Node:
    """Run Relay's four rewrites over a float graph."""
    graph = rewrite(graph, MarkSections(options).rules())
    annotate = Annotate(options)
    graph = rewrite(graph, annotate.rules(), on_shared=annotate.share)
    return rewrite(graph, Realize(options).rules())
