"""Learn rounding, scales and biases so that each block, then the network, computes as in float.

Block by block (BRECQ, Li et al., arXiv 2102.05426; GENIE-M, Jeon et al., arXiv 2212.04780): a block
reads what the blocks before made of the images with the integers learned so far, mixed with what
they are in float (QDrop), and learns to make what it makes in float. At last all of them learn
together what the network's results are in float.

What was learned is what runs: the numbers that change are those of `Structure`, under which every
integer of the plan stays as it was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import cos, pi
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes.float_model.channels import ChannelMap, map_channels
from relay_passes.graph import Expr, GraphBuilder, Module, read_graph, rewrite, static_shape
from relay_passes.host.torch_graph import exact_convolutions, import_torch, usable_device
from relay_passes.learning.kept import Arrays, Kept, key_of
from relay_passes.learning.network import Network
from relay_passes.learning.options import BlockLearner
from relay_passes.learning.structure import Block, structure_of
from relay_passes.operators.calls import split_bias, weight_rows
from relay_passes.scales.scales import Scales
from vta_config.errors import CalibrationError

Tensor = Any
#: (steps done, all steps, what is learned) -> None
Progress: TypeAlias = Callable[[int, int, str], None]

#: Pictures of so many rows or more are learned by parts, half as high and wide.
_WHOLE_ROWS: Final = 48
#: Largest magnitudes of a batch between which float16 holds a tensor well.
_LEAST_HALF: Final = 2.0**-4
_MOST_HALF: Final = 2.0**13
#: From so many images on some only judge: an eighth of them, up to so many.
_MANY: Final = 48
_JUDGES_SHARE: Final = 8
_MOST_JUDGES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What was learned.

    Parameters
    ----------
    mod : IRModule
        The float module with other biases and channel factors; its results are the same but for the
        biases.
    scales : Scales
    weights : dict[str, int8[O, K]]
    """

    mod: Module
    scales: Scales
    weights: Mapping[str, NDArray[np.int8]]


def learn(
    mod: Module,
    scales: Scales,
    weights: Mapping[str, NDArray[np.int8]],
    images: Iterable[NDArray[Any]],
    options: BlockLearner,
    *,
    corrected: Module | None = None,
    fuse: bool = True,
    block: int = 16,
    progress: Progress | None = None,
    kept: Kept | None = None,
) -> Learned:
    """Return better weights, scales and biases; see the module's text.

    Parameters
    ----------
    mod : IRModule
        Float module.
    scales : Scales
        As chosen for it.
    weights : dict[str, int8[O, K]]
        Rounded for these.
    images : iterable of float32[1, C, H, W]
        Calibration images.
    options : BlockLearner
    corrected : IRModule, optional
        The same module with other biases to start from.
    fuse : bool
        Whether conv+ReLU is fused.
    block : int
        Output channels that share a scale.
    progress : callable, optional
        Called after every step.
    kept : Kept, optional
        Keeps each stage that is finished, and has those of the same run that was stopped.

    Raises
    ------
    ConfigError
        When PyTorch is missing.
    CalibrationError
        When there are no images.
    UnsupportedModelError
        When the graph has an operator that has no derivatives here.
    """
    return Learner(
        mod,
        scales,
        weights,
        images,
        options,
        corrected=corrected or mod,
        fuse=fuse,
        block=block,
        progress=progress,
        kept=kept,
    ).learned()


def _title(block: Block | None) -> str:
    return "whole network" if block is None else block.layers[0]


class Learner:
    """One run; see `learn`."""

    def __init__(
        self,
        mod: Module,
        scales: Scales,
        weights: Mapping[str, NDArray[np.int8]],
        images: Iterable[NDArray[Any]],
        options: BlockLearner,
        *,
        corrected: Module,
        fuse: bool,
        block: int,
        progress: Progress | None = None,
        kept: Kept | None = None,
    ) -> None:
        """Read the images and the structure."""
        self.torch = torch = import_torch("learning of weights", hint="choose another variant")
        self.mod, self.options, self._progress = mod, options, progress
        self._kept, self._rounded = kept, dict(weights)
        self._device = usable_device(torch, options.device, "learning")
        self.structure = structure_of(mod, scales, weights, fuse=fuse, block=block)
        self.network = Network(
            mod,
            torch,
            self.structure,
            scales,
            weights,
            biases={
                str(b.var.name): found[1]
                for b in read_graph(corrected).bindings
                if (found := split_bias(b.value)) is not None
            },
            block=block,
            device=self._device,
        )
        self._random = torch.Generator(self._device).manual_seed(options.seed)
        taken = []
        for image, _ in zip(images, range(options.images), strict=False):
            taken.append(torch.from_numpy(np.asarray(image, np.float32)))
            taken[-1] = taken[-1].to(self._stored(taken[0]))
        if not taken:
            raise CalibrationError(
                "learning", "must have at least one image", got=0, hint="give calibration images"
            )
        self._images = torch.cat(taken).to(self._device)
        self._done = 0
        count = len(self._images)
        judges = min(_MOST_JUDGES, count // _JUDGES_SHARE) if count >= _MANY else 0
        self._taught, self._judges = (
            count - judges,
            slice(count - (judges or min(count, _MOST_JUDGES)), count),
        )
        blocks = self.structure.blocks
        self._total = options.steps * len(blocks) + options.final_steps
        self.log: list[tuple[str, float, float]] = []

    # ---- the stages --------------------------------------------------------------------------
    def run(self) -> None:
        """Learn block by block, then all together."""
        (source,) = (str(p.name) for p in read_graph(self.mod).params)
        finished = self._take_finished()
        if finished == len(self._stages):
            return
        floats, rounded = {source: self._images}, {source: self._round_input(source)}
        for number, block in enumerate(self.structure.blocks):
            made = self._advance(block, floats, self.network.float_run)
            if self.options.steps and number >= finished:
                self._learn_block(block, floats, rounded, made)
                self._keep(number)
            wanted = {*self._results, *(n for b in self._after(block) for n in b.inputs)}
            floats = {n: v for n, v in (floats | made).items() if n in wanted}
            del made  # of all images, so no two more than needed at a time
            found = self._advance(block, rounded, self._plain_run)
            rounded = {n: v for n, v in (rounded | found).items() if n in wanted}
            del found
        if self.options.final_steps:
            self._learn_all(source, floats)
            self._keep(len(self._stages) - 1)

    # ---- what is finished --------------------------------------------------------------------
    @property
    def _stages(self) -> list[Block | None]:
        """The blocks, where they learn, and None for the whole network."""
        blocks = [*self.structure.blocks] if self.options.steps else []
        return [*blocks, None] if self.options.final_steps else list(blocks)

    def _take_finished(self) -> int:
        """Take over what was kept of the first stages; return how many they are."""
        if self._kept is None:
            return 0
        for number, block in enumerate(self._stages):
            arrays = self._kept.load(self._key, number)
            if arrays is None or not self._take(block, arrays):
                return number
            self._done += self.options.final_steps if block is None else self.options.steps
            if self._progress is not None:
                self._progress(self._done, self._total, _title(block))
        return len(self._stages)

    def _keep(self, number: int) -> None:
        """Keep what a stage has learned, and where the random numbers are."""
        if self._kept is None:
            return
        leaves = self._leaves(self._stages[number])
        _, before, after = self.log[-1]
        arrays = {"random": self._random.get_state(), "errors": self.torch.tensor([before, after])}
        for name, leaf in leaves.items():  # of a bit only the choice is used from now on
            value = leaf.detach().cpu()
            arrays[name] = value >= 0 if name.startswith("rate") else value
        found = {name: np.asarray(value.numpy()) for name, value in arrays.items()}
        self._kept.save(self._key, number, found)

    def _take(self, block: Block | None, arrays: Arrays) -> bool:
        """Set what a stage learned; False where the arrays are not of it."""
        leaves = self._leaves(block)
        if arrays.keys() != {"random", "errors", *leaves} or any(
            arrays[name].shape != tuple(leaf.shape) for name, leaf in leaves.items()
        ):
            return False
        with self.torch.no_grad():
            for name, leaf in leaves.items():
                value = self.torch.from_numpy(arrays[name]).to(self._device)
                leaf.copy_(value.float() - 0.5 if name.startswith("rate") else value)
        self._random.set_state(self.torch.from_numpy(arrays["random"]))
        before, after = arrays["errors"].tolist()
        self.log.append((_title(block), before, after))
        return True

    def _leaves(self, block: Block | None) -> dict[str, Tensor]:
        """Return what a stage learns, by the name of its rate and its place."""
        found = self._parameters(block).items()
        return {f"{rate}.{i}": leaf for rate, leaves in found for i, leaf in enumerate(leaves)}

    @cached_property
    def _key(self) -> str:
        """What tells this run from all others."""
        network, torch = self.network, self.torch
        arrays: dict[str, NDArray[Any]] = {f"weight {n}": w for n, w in self._rounded.items()}
        arrays |= {f"bias {add}": np.asarray(network.bias(add)) for add in network.offsets}
        facts = torch.__version__, self.options, self.structure, network.scales
        return key_of(self.mod, facts, arrays, self._images.cpu().numpy())

    @property
    def _results(self) -> tuple[str, ...]:
        return self.structure.blocks[-1].outputs

    def _after(self, block: Block) -> Sequence[Block]:
        blocks = self.structure.blocks
        return blocks[blocks.index(block) + 1 :]

    def _round_input(self, source: str) -> Tensor:
        if source not in self.structure.quantized:
            return self._images
        with self.torch.no_grad():
            parts = self._images.split(self.options.batch)
            return self.torch.cat(
                [self.network.rounded(source, part.float()).to(part.dtype) for part in parts]
            )

    def _plain_run(self, given: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
        with self.torch.no_grad():
            return self.network.run(given, wanted)

    def _advance(self, block: Block, inputs: Mapping[str, Tensor], run: Any) -> dict[str, Tensor]:
        """Return a block's outputs for all images, computed from its inputs among `inputs`."""
        made: dict[str, Tensor] = {}
        for start in range(0, len(self._images), self.options.batch):
            part = slice(start, start + self.options.batch)
            found = run({n: inputs[n][part].float() for n in block.inputs}, block.outputs)
            for name, value in found.items():
                if name not in made:  # where all go, at once: these are the largest arrays
                    shape = len(self._images), *value.shape[1:]
                    stored = self._stored(value)
                    made[name] = self.torch.empty(shape, dtype=stored, device=self._device)
                made[name][part] = value
        return made

    def _learn_block(
        self,
        block: Block,
        floats: Mapping[str, Tensor],
        rounded: Mapping[str, Tensor],
        made: Mapping[str, Tensor],
    ) -> None:
        torch, options, network = self.torch, self.options, self.network
        floats, rounded = ({n: of[n] for n in block.inputs} for of in (floats, rounded))
        powers = {n: self._power(v) for n, v in made.items()}
        window = self._window(block, floats)
        parameters = self._parameters(block)
        optimizer = self._optimizer(parameters, options.steps)
        error, start = self._error(block, rounded, made, powers), self._copy(parameters)
        for step in range(options.steps):
            some = self._some()
            given, target = {n: v[some] for n, v in floats.items()}, {}
            mixed = {n: v[some] for n, v in rounded.items()}
            if window:
                part = self._place(next(iter(given.values())), window)
                given = {n: v[part] for n, v in given.items()}
                mixed = {n: v[part] for n, v in mixed.items()}
            given = {n: v.float() for n, v in given.items()}
            mixed = {n: v.float() for n, v in mixed.items()}
            if window:
                target = network.float_run(given, block.outputs)
            else:
                target = {n: v[some].float() for n, v in made.items()}
            if options.drop:
                for name, value in given.items():
                    mixed[name] = torch.where(self._drawn(value), value, mixed[name])
            found = network.run(mixed, block.outputs, drop=self._inner_drop, generator=self._random)
            loss = sum((found[n] - target[n]).square().mean() / powers[n] for n in block.outputs)
            self._step(optimizer, loss, step, options.steps, _title(block))
        learned = self._error(block, rounded, made, powers)
        if not learned < error:
            self._restore(parameters, start)
        self.log.append((_title(block), error, learned))

    def _stored(self, value: Tensor) -> Any:
        """Return the type in which a tensor like `value` is kept: two bytes where they hold it."""
        peak = float(value.abs().max())
        return self.torch.float16 if _LEAST_HALF < peak < _MOST_HALF else self.torch.float32

    def _power(self, value: Tensor) -> float:
        """Return the mean square of a tensor of all images."""
        parts = value.split(self.options.batch)
        total = sum((float(v.float().square().sum()) for v in parts), 0.0)
        return max(float(total / value.numel()), 1e-30)

    def _error(
        self,
        block: Block,
        inputs: Mapping[str, Tensor],
        wanted: Mapping[str, Tensor],
        powers: Mapping[str, float],
    ) -> float:
        """Return a block's relative squared error on the images that judge."""
        total, count = 0.0, 0
        for start in range(self._judges.start, self._judges.stop, self.options.batch):
            part = slice(start, min(start + self.options.batch, self._judges.stop))
            found = self._plain_run({n: v[part].float() for n, v in inputs.items()}, block.outputs)
            for name, value in found.items():
                error = (value - wanted[name][part].float()).square().mean() / powers[name]
                total += float(error) * len(value)
            count += part.stop - part.start
        return total / count

    @staticmethod
    def _copy(parameters: Mapping[str, list[Tensor]]) -> list[Tensor]:
        return [v.detach().clone() for found in parameters.values() for v in found]

    def _restore(self, parameters: Mapping[str, list[Tensor]], values: list[Tensor]) -> None:
        with self.torch.no_grad():
            own = [v for found in parameters.values() for v in found]
            for parameter, value in zip(own, values, strict=True):
                parameter.copy_(value)

    @property
    def _inner_drop(self) -> float:
        """Return the share of activations inside that stay float: none where all have 8 bits."""
        bits = [p.bits for p in self.network.scales.tensors.values()]
        return self.options.drop if min(bits, default=8) < 8 else 0.0

    def _learn_all(self, source: str, floats: Mapping[str, Tensor]) -> None:
        torch, options, network = self.torch, self.options, self.network
        functional = torch.nn.functional
        optimizer = self._optimizer(self._parameters(None), options.final_steps, 0.3)
        first = last = 0.0
        for step in range(options.final_steps):
            some = self._some()
            image = self._images[some].float()
            if source in self.structure.quantized:
                with torch.no_grad():
                    image = network.rounded(source, image)
            found = network.run({source: image}, self._results)
            loss = 0.0
            for name in self._results:
                target, value = floats[name][some].float(), found[name]
                target, value = target.flatten(1), value.flatten(1)
                loss = loss + functional.kl_div(
                    value.log_softmax(1), target.log_softmax(1), log_target=True,
                    reduction="batchmean",
                )  # fmt: skip
                loss = loss + (value - target).square().mean() / target.square().mean()
            last = self._step(optimizer, loss, step, options.final_steps, _title(None))
            first = first or last
        self.log.append((_title(None), first, last))

    # ---- steps -------------------------------------------------------------------------------
    def _parameters(self, block: Block | None) -> dict[str, list[Tensor]]:
        """Return what a block learns, or the whole network, by rate.

        A scale or a factor is learned in a block if nothing outside of it depends on it.
        """
        network, structure, options = self.network, self.structure, self.options
        names = set(block.tensors) if block else None
        found: dict[str, list[Tensor]] = {"rate": [], "scale_rate": [], "bias_rate": []}
        if options.soft_bits and block is not None:  # all at once they would swing
            found["rate"] = [w for n, w in network.bits.items() if not names or n in names]
        if options.learned_scales:
            tied: dict[str, set[str]] = {}
            for name, first in structure.tied.items():
                tied.setdefault(first, set()).add(name)
            members = [*tied.values(), *(set(g.tensors) for g in structure.groups)]
            logs = [*(network.scale_logs[n] for n in tied), *network.factor_logs]
            found["scale_rate"] = [
                log for own, log in zip(members, logs, strict=True) if not names or own <= names
            ]
            found["scale_rate"] += [
                log for n, log in network.row_logs.items() if not names or n in names
            ]
        found["bias_rate"] = [b for n, b in network.offsets.items() if not names or n in names]
        return found

    def _optimizer(
        self, parameters: Mapping[str, list[Tensor]], steps: int, share: float = 1.0
    ) -> Any:
        groups = [
            {"params": found, "lr": share * getattr(self.options, rate)}
            for rate, found in parameters.items()
            if found
        ]
        for group in groups:
            group["start"] = group["lr"]
        return self.torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)

    def _step(self, optimizer: Any, loss: Tensor, step: int, steps: int, what: str) -> float:
        for group in optimizer.param_groups:
            group["lr"] = group["start"] * (1 + cos(pi * step / steps)) / 2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        self.network.keep_within()
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total, what)
        return float(loss.detach())

    def _some(self) -> Tensor:
        """Draw the images of a step."""
        order = self.torch.randperm(self._taught, generator=self._random, device=self._device)
        return order[: self.options.batch]

    def _drawn(self, value: Tensor) -> Tensor:
        """Draw which values of a tensor stay float, bool like it."""
        draw = self.torch.rand(value.shape, generator=self._random, device=self._device)
        return draw < self.options.drop

    def _window(self, block: Block, inputs: Mapping[str, Tensor]) -> tuple[int, int] | None:
        """Return rows and columns of the part of a picture that a step sees; None for all."""
        sizes = {tuple(v.shape[2:]) for v in inputs.values()}
        if not block.croppable or len(sizes) != 1:
            return None
        (size,) = sizes
        if len(size) != 2 or min(size) < _WHOLE_ROWS:
            return None
        return size[0] // 2, size[1] // 2

    def _place(self, value: Tensor, window: tuple[int, int]) -> tuple[Any, ...]:
        """Draw the place of a window."""
        source = self._random
        starts = [
            int(self.torch.randint(whole - part + 1, (), generator=source, device=self._device))
            for whole, part in zip(value.shape[2:], window, strict=True)
        ]
        return (..., *(slice(s, s + n) for s, n in zip(starts, window, strict=True)))

    # ---- what was learned --------------------------------------------------------------------
    def learned(self) -> Learned:
        """Learn, and return the result."""
        with exact_convolutions(self.torch):
            self.run()
        return self.result()

    def result(self) -> Learned:
        """Return what the network's numbers are now, as numbers of a plan."""
        network, structure = self.network, self.structure
        scales = network.scales

        def log_of(tensor: str) -> float:
            return float(network.scale_log(tensor).detach())

        tensors = {
            name: replace(params, scale=(params.scale[0] * float(np.exp(log_of(root))),))
            for name, params in scales.tensors.items()
            if (root := structure.roots.get(name)) is not None
        }
        weights = dict(scales.weights)
        for name, (source, end) in structure.layers.items():
            log = (log_of(end) if end else 0.0) - (log_of(source) if source and end else 0.0)
            params = weights[name]
            change = np.full(len(params.scale), np.exp(log))
            if name in network.row_logs:
                rows = network.row_log(name).detach().cpu().double().numpy().reshape(-1)
                starts = np.linspace(0, len(rows), len(change), endpoint=False).astype(int)
                change = np.exp(rows[starts])
            weights[name] = replace(
                params,
                scale=tuple(s * c for s, c in zip(params.scale, change.tolist(), strict=True)),
            )
        calls = {str(b.var.name): b.value for b in read_graph(self.mod).bindings}
        integers = {
            name: weight_rows(calls[name], network.integers(name).detach().cpu().numpy()).round()
            .astype(np.int8)
            for name in structure.layers
        }  # fmt: skip
        mod = rewrite(self.mod, self._with_bias)
        factors = [np.exp(log.detach().cpu().double().numpy()) for log in network.factor_logs]
        maps = tuple(ChannelMap(order=np.arange(len(f)), factor=f) for f in factors)
        return Learned(
            mod=map_channels(mod, structure.groups, maps),
            scales=Scales(tensors={**scales.tensors, **tensors}, weights=weights),
            weights=integers,
        )

    def _with_bias(self, builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
        bias = self.network.bias(str(var.name))
        found = None if bias is None else split_bias(value)
        if bias is None or found is None:
            return value
        shape = [1] * len(static_shape(found[0]))
        shape[1] = len(bias)
        return relax.op.add(found[0], relax.const(bias.reshape(shape).astype(np.float32)))
