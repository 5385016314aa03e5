"""How a model is quantized: which chooser, rounder and passes, and what they require together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from relay_passes.graph import GraphPass
from relay_passes.learning.options import BlockLearner
from relay_passes.requirements import CAPABILITIES, MOMENTS, NOTHING, PICTURES, Need
from relay_passes.rounding.nearest import NearestRounder, WeightRounder
from relay_passes.scales.bit_widths import BitWidths, Limits, UniformWidths
from relay_passes.scales.power_of_two import ProfiledScales
from relay_passes.scales.scales import ScaleChooser
from vta_config.hardware import VTAConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantOptions:
    """How a model is quantized.

    Parameters
    ----------
    chooser : ScaleChooser
        Chooses every tensor's and weight's scale.
    rounder : WeightRounder
        Rounds the weights.
    fuse : bool
        Whether conv+ReLU is fused (S_y -> S_a).
    passes : tuple[GraphPass, ...]
        Run on the float module first; they must keep the tensors' names and the results.
    correct_bias : bool
        Whether biases make up for the mean error of rounded weights.
    dyadic : bool
        Whether accumulators are multiplied by b / 2^c.
    block : int
        Output channels that share a scale, where channels do not all; see `for_machine`.
    widths : dict[str, Widths] or UniformWidths
        Bits of the layers, by name; a layer that is not named has 8.
    limits : Limits
        The largest integers; see `for_machine`.
    learner : BlockLearner, optional
        Learns weights, scales and biases after they were rounded and chosen.
    zero_points : bool
        Whether tensors that are never negative use negative integers, too: [-128, 127] for what is
        [0, 127] otherwise.
    """

    chooser: ScaleChooser = field(default_factory=ProfiledScales)
    rounder: WeightRounder = field(default_factory=NearestRounder)
    fuse: bool = True
    passes: tuple[GraphPass, ...] = ()
    correct_bias: bool = False
    dyadic: bool = False
    block: int = 16
    widths: BitWidths | UniformWidths = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    learner: BlockLearner | None = None
    zero_points: bool = False

    def for_machine(self, config: VTAConfig) -> QuantOptions:
        """Return the same options for a machine: its blocks, and what its operands hold."""
        block = config.block
        return replace(
            self,
            chooser=self.chooser.for_block(block),
            rounder=self.rounder.for_block(block),
            passes=tuple(step.for_block(block) for step in self.passes),
            block=block,
            limits=Limits.of(config),
        )

    def with_widths(self, widths: BitWidths | UniformWidths) -> QuantOptions:
        """Return the same options for layers of other widths."""
        return replace(self, widths=widths)

    @property
    def needs(self) -> frozenset[Need]:
        """What the parts require together."""
        own = MOMENTS if self.correct_bias else NOTHING
        own |= NOTHING if self.learner is None else PICTURES
        passes = NOTHING.union(*(step.needs for step in self.passes))
        return own | self.chooser.needs | self.rounder.needs | passes

    @property
    def learns(self) -> bool:
        """Whether layers learn from moments, measured on calibration images."""
        return "moments" in self.needs

    @property
    def capabilities(self) -> frozenset[str]:
        """The capabilities of a machine without which layers stay on the host."""
        return self.needs & CAPABILITIES
