"""Expose every layer's output tensor, to compare engines bit for bit."""

from __future__ import annotations

from relay_passes.graph import Module
from relay_passes.host.expose import expose_variables
from relay_passes.partition.read import find_layers
from vta_config.hardware import VTAConfig


def expose_tensors(mod: Module, config: VTAConfig) -> tuple[Module, tuple[str, ...]]:
    """Return the quantized module with further results, one for each layer, and their names.

    Parameters
    ----------
    mod : IRModule
        Quantized, not partitioned.
    config : VTAConfig
        The machine whose layers are meant.

    Returns
    -------
    IRModule
        ``main`` returns its own results, then every layer's output (int8 or int32) in order.
    tuple[str, ...]
        Names of these outputs, as `Layer.output`.
    """
    chains = find_layers(mod, config).chains
    exposed = expose_variables(mod, [chain.output for chain in chains])
    return exposed, tuple(chain.output_name for chain in chains)
