"""Lowering: layers to instructions, tile by tile, as jobs that order.py puts in sequence.

Here is the order: what is read of kernels, normal form, what stays in the scratchpads, the forms of
inputs, places in DRAM, then operator by operator on the workbench.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flow.compiler.borders import border_fills, tensor_borders
from flow.compiler.cost import objective_cost
from flow.compiler.input_choice import first_layers, in_forms
from flow.compiler.memory import Constants, plan_activations
from flow.compiler.operators.conv_pool import conv_pool, fused_pools, normal_layer_with_pool
from flow.compiler.operators.conv_sum import with_sums
from flow.compiler.operators.table import LOWERERS
from flow.compiler.order import in_layers, ordered
from flow.compiler.planes import tensor_planes
from flow.compiler.schedule import Lowered, Schedule
from flow.compiler.taps import with_read_taps
from flow.compiler.tokens import TokenInserter
from flow.compiler.uops import UopAllocator
from flow.compiler.views import views_of
from flow.compiler.workbench import Residents, Workbench
from flow.program.layouts import NO_BORDER, alignment_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.order import Job
    from flow.program.input_form import InputForm
    from flow.program.layouts import Border
    from relay_passes.partition.layers import Subgraph
    from vta_config.hardware import VTAConfig


class Lowering:
    """Lower the layers of one subgraph, in order, for one machine."""

    def __init__(
        self,
        subgraph: Subgraph,
        config: VTAConfig,
        schedule: Schedule | None = None,
        *,
        timing_only: bool = False,
    ) -> None:
        """Bring the layers into normal form and place them; for timing, zeros stand for weights."""
        subgraph = with_read_taps(subgraph)
        self._timing_only = timing_only
        self.config = config
        self._schedule = schedule = schedule or Schedule()
        planes = tensor_planes(subgraph, config)
        self.layers = tuple(_normal_layers(subgraph, config, planes))
        self.residents = Residents(self.layers, config, schedule.objective)
        self._forms = dict(self._inputs(subgraph) if schedule.forms is None else schedule.forms)
        self.layers = tuple(
            normal_layer_with_pool(p.layer, p.pool, config, self._forms[p.layer.inputs[0]], planes)
            if p.layer.inputs[0] in self._forms
            else p
            for p in self.layers
        )
        self.layers = tuple(with_sums(self.layers, subgraph, config, self.residents, planes))
        shapes = {spec.name: (*spec.shape, 1, 1)[:4] for spec in subgraph.inputs}
        shapes |= {name: form.dram_shape(shapes[name]) for name, form in self._forms.items()}
        shapes |= {p.last.output: p.last.out_shape for p in self.layers}
        # Weights that a layer makes: a vector in DRAM for each of their rows.
        made = [p for p in self.layers if p.diagonal]
        shapes |= {p.diagonal: (*p.layer.in_shape[:2], config.block, 1) for p in made}
        planes |= {p.diagonal: 1 for p in made}
        self._views = views_of(subgraph, planes, config)
        without = {p.layer.name for p in self.layers if p.border.empty}
        borders = self._views.bordered(tensor_borders(subgraph, self._forms, without))
        self.layers = tuple(_stored_in(p, borders) for p in self.layers)
        self._tensors, self._constants_at = plan_activations(
            subgraph, self.layers, config, shapes, planes, borders, self._views
        )
        own = {name: t for name, t in self._tensors.items() if name not in self._views.views}
        self._fills = border_fills(subgraph, own, config)

    def run(self) -> Lowered:
        """Lower everything; return instructions, constants and the DRAM map."""
        config = self.config
        constants = Constants(alignment_bytes(config), self._constants_at, self._timing_only)
        bench = Workbench(
            config,
            self.residents,
            self._tensors,
            constants,
            self._schedule.tilings,
            self._views.written,
        )
        uops = UopAllocator(config, constants)
        program = [
            e
            for group in in_layers(ordered([*self._jobs(bench)], config))
            for e in uops.assign(group)
        ]
        inserter = TokenInserter(
            {
                "inp": config.inp_depth,
                "wgt": config.wgt_depth,
                "acc": config.acc_depth,
                "dram": self._constants_at // config.inp_elem_bytes,
            }
        )
        return Lowered(
            insns=inserter.insert(program),
            constants=constants.data(),
            constants_at=self._constants_at,
            arena_bytes=self._constants_at + constants.size_bytes,
            tensors=self._tensors,
            layers=self.layers,
            forms=self._forms,
            fills=self._fills,
        )

    def _inputs(self, subgraph: Subgraph) -> Iterator[tuple[str, InputForm]]:
        """Yield the form of each input that does not best lie as it is."""
        for name, normal in first_layers(subgraph, self.layers):
            capacity = self.residents.capacity
            choices = in_forms(normal, self.config, self.residents.capacity_of(normal))
            _, best = min(
                choices, key=lambda c: objective_cost(c[0], capacity), default=(None, normal)
            )
            if best.form is not None:
                yield name, best.form

    def _jobs(self, bench: Workbench) -> Iterator[Job]:
        yield bench.resident_job()
        for normal in self.layers:
            for job in _jobs_of(bench, normal):
                job.layer = normal.layer.name
                yield job


def _jobs_of(bench: Workbench, normal: NormalLayer) -> Iterator[Job]:
    """Lower one layer by its operator."""
    if normal.pool is not None:
        return conv_pool(bench, normal)
    return LOWERERS[normal.layer.kind].lower(bench, normal)


def _normal_layers(
    subgraph: Subgraph, config: VTAConfig, planes: Mapping[str, int]
) -> Iterator[NormalLayer]:
    """Yield the layers in normal form, max-pools joined with the convolution before them."""
    pools = fused_pools(subgraph)
    done = set()
    for layer in subgraph.layers:
        if layer.name in done:
            continue
        normal = normal_layer_with_pool(layer, pools.get(layer.name), config, planes=planes)
        if normal.pool is not None:
            done.add(normal.pool.name)
        yield normal


def _stored_in(normal: NormalLayer, borders: Mapping[str, Border]) -> NormalLayer:
    """Tell a layer's shape whether rows of its output lie apart in DRAM."""
    border = borders.get(normal.last.output, NO_BORDER)
    apart = bool(border.left or border.right)
    return replace(normal, shape=replace(normal.shape, stored_rows=apart)) if apart else normal


def lower(subgraph: Subgraph, config: VTAConfig, schedule: Schedule | None = None) -> Lowered:
    """Lower a subgraph to one instruction stream.

    Parameters
    ----------
    subgraph : Subgraph
    config : VTAConfig
    schedule : Schedule, optional
        What `search.search` found; the cost model chooses the rest.

    Raises
    ------
    CapacityError
        When a layer does not fit the machine.
    UnsupportedModelError
        When a post-op needs what the machine does not have.
    """
    return Lowering(subgraph, config, schedule).run()
