"""Profile a float model: nodes in the graph record every tensor's range and histogram.

`InsertProfiling` adds, behind each tensor, a call of a host function whose result is the tensor's
record for one image: [lo, hi, limit, counts...]. The records are further outputs of the graph, so
nothing is global, and `profile` merges them image by image. Histograms span [-limit, limit] with
`limit` a power of two, so that two of them merge exactly: doubling the limit adds bins in pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
import tvm_ffi
from numpy.typing import NDArray
from tvm import relax

from relay_passes.graph import GraphBuilder, GraphPass, Module, read_graph, replace_main, substitute
from relay_passes.host.run import HostModule
from relay_passes.numerics import power_of_two_at_least
from relay_passes.params import TensorProfile
from vta_config.errors import CalibrationError

PROFILE_FUNCTION: Final = "relay_passes.host.profile"
#: Bins of a histogram, over both signs.
BINS: Final = 2048
#: Narrower histograms would overflow float32 when values are divided by their bins' width.
_SMALLEST_LIMIT: Final = 2.0**-112
_HEAD: Final = 3  # lo, hi, limit
#: Values counted at a time, which the processor's cache holds.
_PIECE: Final = 1 << 15
#: lo, hi, limit and the counts, of one image or of several.
_Record: TypeAlias = tuple[float, float, float, NDArray[np.int64]]
#: Given some tensors of an image, by name.
Take: TypeAlias = Callable[[Mapping[str, NDArray[Any]]], object]


def record(x: NDArray[Any]) -> NDArray[np.float64]:
    """Return one tensor's record, float64[3 + BINS]: lo, hi, limit and the histogram's counts."""
    values = np.asarray(x, np.float32).ravel()
    lo, hi = float(values.min()), float(values.max())
    result = np.zeros(_HEAD + BINS)
    result[:_HEAD] = lo, hi, 1.0
    if not (np.isfinite(lo) and np.isfinite(hi)):
        return result
    limit = max(power_of_two_at_least(max(-lo, hi)), _SMALLEST_LIMIT)
    result[2] = limit
    for start in range(0, len(values), _PIECE):
        position = values[start : start + _PIECE] * np.float32(BINS / 2 / limit)
        position += np.float32(BINS / 2)
        places = position.astype(np.intp)
        np.minimum(places, BINS - 1, out=places)
        result[_HEAD:] += np.bincount(places, minlength=BINS)
    return result


@tvm_ffi.register_global_func(PROFILE_FUNCTION, override=True)
def _profile_packed(x: Any, out: Any) -> None:
    """Write the record of TVM tensor `x` to `out`."""
    np.copyto(np.from_dlpack(out), record(np.from_dlpack(x)))


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertProfiling(GraphPass):
    """Add a profiling node behind every float32 tensor; the records become outputs.

    The outputs are the model's own, then one record for each name of `profiled_tensors`, then the
    tensors themselves that are to be kept.

    Parameters
    ----------
    keep : tuple of str
        Names of tensors.
    """

    keep: tuple[str, ...] = ()

    def transform(self, mod: Module) -> Module:
        """Return `mod` with profiling nodes."""
        graph = read_graph(mod)
        builder = GraphBuilder()
        env: dict[Any, Any] = {}
        records = []
        out_ty = relax.TensorType((_HEAD + BINS,), "float64")

        def watch(var: Any, name: str) -> None:
            call = relax.op.call_dps_packed(PROFILE_FUNCTION, relax.Tuple([var]), out_ty=out_ty)
            records.append(builder.emit(call, f"{name}.profile"))

        for param in graph.params:
            if _is_float(param):
                watch(param, param.name)
        for binding in graph.bindings:
            env[binding.var] = builder.emit(substitute(binding.value, env), binding.var.name)
            if _is_float(binding.var):
                watch(env[binding.var], binding.var.name)
        tensors = {v.name: env.get(v, v) for v in (*graph.params, *(b.var for b in graph.bindings))}
        results = [env.get(v, v) for v in graph.results] + records
        results += [tensors[name] for name in self.keep]
        return replace_main(mod, builder, graph, results)


def _is_float(var: Any) -> bool:
    return isinstance(var.ty, relax.TensorType) and str(var.ty.dtype) == "float32"


def profiled_tensors(mod: Module) -> tuple[str, ...]:
    """Return the names of the tensors that `InsertProfiling` watches, in the order of outputs."""
    graph = read_graph(mod)
    return tuple(
        var.name for var in (*graph.params, *(b.var for b in graph.bindings)) if _is_float(var)
    )


def profile(
    mod: Module,
    images: Iterable[NDArray[Any]],
    *,
    progress: Callable[[int], None] | None = None,
    keep: Collection[str] = (),
    take: Take | None = None,
) -> dict[str, TensorProfile]:
    """Run the float model over calibration images on the CPU and return every tensor's profile.

    Parameters
    ----------
    mod : IRModule
        Float module, folded and named.
    images : iterable of float32[N, C, H, W]
        Preprocessed inputs, each of the model's input shape.
    progress : callable (count), optional
        Called after every image.
    keep : collection of str
        Names of tensors for `take`.
    take : callable (tensors), optional
        Given these tensors of each image, by name.

    Raises
    ------
    CalibrationError
        When there is no image, one has another shape, or a tensor holds NaN or infinity.
    """
    return Profiler(mod, keep).run(images, progress=progress, take=take)


class Profiler:
    """A float model with profiling nodes, compiled once for any number of runs.

    Parameters
    ----------
    mod : IRModule
        Float module, folded and named.
    keep : collection of str
        Names of tensors for `run`'s `take`.
    """

    def __init__(self, mod: Module, keep: Collection[str] = ()) -> None:
        """Insert the nodes and compile."""
        self._names, self._wanted = profiled_tensors(mod), tuple(keep)
        self._run = HostModule(InsertProfiling(keep=self._wanted)(mod), fast=True)

    def run(
        self,
        images: Iterable[NDArray[Any]],
        *,
        first: int = 0,
        progress: Callable[[int], None] | None = None,
        take: Take | None = None,
    ) -> dict[str, TensorProfile]:
        """Return every tensor's profile on some images; `first` is the number of the first one.

        Raises
        ------
        CalibrationError
            As `profile`.
        """
        names, wanted, run = self._names, self._wanted, self._run
        merged: dict[str, _Record] = {}
        maxima: dict[str, list[float]] = {name: [] for name in names}
        count = 0
        for image in images:
            if np.shape(image) != run.image_shape:
                raise CalibrationError(
                    f"calibration image {first + count}",
                    f"must have shape {list(run.image_shape)}",
                    got=list(np.shape(image)),
                    hint="preprocess it for this model",
                )
            outputs = run(np.asarray(image, np.float32))
            end = len(outputs) - len(wanted)
            if take is not None:
                take(dict(zip(wanted, outputs[end:], strict=True)))
            for name, values in zip(names, outputs[end - len(names) : end], strict=True):
                merged[name] = _merge(merged.get(name), values)
                maxima[name].append(max(-values[0], values[1]))
            count += 1
            if progress is not None:
                progress(count)
        if count == 0:
            raise CalibrationError(
                "calibration", "must have at least one image", got=0, hint="give a folder of images"
            )
        return {
            name: TensorProfile(
                name=name,
                lo=lo,
                hi=hi,
                limit=limit,
                histogram=counts,
                samples=count,
                sample_hi=np.asarray(maxima[name], np.float32),
            )
            for name, (lo, hi, limit, counts) in merged.items()
        }


def merge_profiles(parts: Sequence[Mapping[str, TensorProfile]]) -> dict[str, TensorProfile]:
    """Return the profiles on all images from those on parts of them, in the order of the images.

    Exactly what one run over all images gives: bounds and counts do not depend on the order.
    """
    return {name: _merged([part[name] for part in parts]) for name in parts[0]}


def _merged(parts: Sequence[TensorProfile]) -> TensorProfile:
    total: _Record | None = None
    for p in parts:
        total = _added(total, (p.lo, p.hi, p.limit, p.histogram))
    assert total is not None, "there are parts"
    lo, hi, limit, counts = total
    return replace(
        parts[0],
        lo=lo,
        hi=hi,
        limit=limit,
        histogram=counts,
        samples=sum(p.samples for p in parts),
        sample_hi=np.concatenate([p.sample_hi for p in parts]),
    )


def _merge(old: _Record | None, values: NDArray[np.float64]) -> _Record:
    """Add one record to what was merged before."""
    lo, hi, limit = (float(v) for v in values[:_HEAD])
    return _added(old, (lo, hi, limit, values[_HEAD:].astype(np.int64)))


def _added(old: _Record | None, new: _Record) -> _Record:
    """Merge two records."""
    if old is None:
        return new
    lo, hi, limit, counts = new
    top = max(limit, old[2])
    total = _widen(counts, limit, top) + _widen(old[3], old[2], top)
    # np.minimum and np.maximum, unlike min and max, keep a NaN
    return float(np.minimum(lo, old[0])), float(np.maximum(hi, old[1])), top, total


def _widen(counts: NDArray[np.int64], limit: float, target: float) -> NDArray[np.int64]:
    """Re-bin a histogram over [-limit, limit] for [-target, target]; both powers of two."""
    while limit < target:
        half = counts.reshape(-1, 2).sum(axis=1)
        counts = np.zeros_like(counts)
        counts[BINS // 4 : BINS // 4 + BINS // 2] = half
        limit *= 2
    return counts
