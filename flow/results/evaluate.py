"""Measure a network on a data set: top-1, top-5, agreement with float32, and SQNR.

All metrics come from stored results, float32[images, values]: the logits of a classifier, all
outputs of another network side by side. So every engine is measured by the same few lines.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from flow.data.datasets import Dataset
from flow.outputs import Output, as_row, classes_of, slices_of
from flow.stages import Progress
from relay_passes.host.rows import inputs_of
from relay_passes.numerics import centred, decibels, limited_db
from vta_config.errors import CalibrationError, UnsupportedModelError

Logits = NDArray[np.float32]
#: Maps an image float32[1, C, H, W] to the numbers of all outputs (any shape).
Network = Callable[[NDArray[np.float32]], NDArray[Any]]


#: Results of more bytes lie in a temporary file.
MOST_IN_MEMORY_BYTES: Final = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputMetrics:
    """How near one output of a network is to float32's.

    Parameters
    ----------
    name : str
        The output's.
    shape : tuple of int
        For one image.
    sqnr_db, centred_sqnr_db : float, optional
        As those of `Metrics`, of this output alone.
    """

    name: str
    shape: tuple[int, ...]
    sqnr_db: float | None
    centred_sqnr_db: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """How good one variant of a network is.

    Parameters
    ----------
    name : str
        ``float32``, or the variant's.
    images : int
        Images measured.
    top1, top5 : float, optional
        Share of images (0 to 1) whose label is the largest, among the five largest logits; None
        without labels, and for a network that is no classifier.
    top1_change_margin : float, optional
        Half the width of the 95 % confidence interval of top1 minus that of float32, a share; see
        `change_margin`. None without labels, for float32, and for a network that is no classifier.
    agreement : float, optional
        Share of images (0 to 1) with the same arg-max as float32; None for a network that is no
        classifier.
    sqnr_db : float, optional
        10 log10(sum of ref² / sum of (logits - ref)²) over all logits, within ±300; None when they
        are equal (infinite). Of several outputs that of the worst one.
    centred_sqnr_db : float, optional
        The same after each image's mean logit is subtracted from its logits, in both. A class wins
        by how far its logit is above the others, which a mean far from zero hides; None when
        nothing but means differs, as with a single logit. Of several outputs that of the worst one.
    outputs : tuple of OutputMetrics
        Each output of a network that is no classifier.
    """

    name: str
    images: int
    top1: float | None
    top5: float | None
    agreement: float | None
    sqnr_db: float | None
    centred_sqnr_db: float | None
    outputs: tuple[OutputMetrics, ...] = ()
    top1_change_margin: float | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Metrics:
        """Return what `asdict` wrote, read from JSON."""
        outputs = (OutputMetrics(**{**o, "shape": tuple(o["shape"])}) for o in value["outputs"])
        return cls(**{**value, "outputs": tuple(outputs)})


def top_k(logits: Logits, targets: NDArray[np.int64], k: int) -> float:
    """Return the share of rows whose target is among the `k` largest logits (ties by index).

    Parameters
    ----------
    logits : float32[images, classes]
        Rows of logits.
    targets : int64[images]
        Labels.
    k : int
        How many of the largest count.
    """
    return float((_ranks(logits, targets) < k).mean())


def _ranks(logits: Logits, targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many logits come before that of the target, int64[images]."""
    own = np.take_along_axis(logits, targets[:, np.newaxis], axis=1)
    before = np.arange(logits.shape[1]) < targets[:, np.newaxis]
    ranks: NDArray[np.int64] = ((logits > own) | ((logits == own) & before)).sum(axis=1)
    return ranks


def change_margin(logits: Logits, reference: Logits, targets: NDArray[np.int64]) -> float:
    """Return half the width of the 95 % confidence interval of the change of top-1.

    Both are measured on the same images, so only those matter that one has right and the other
    wrong: of n images b and c of either kind. Half a count is added to each of the four kinds (A.
    Agresti and Y. Min, Statistics in Medicine 24, 2005): with N = n + 2 and b, c raised by ½,
    1.96 · sqrt(b + c - (b - c)² / N) / N.

    Parameters
    ----------
    logits, reference : float32[images, classes]
        Of the variant and of float32.
    targets : int64[images]
        Labels.
    """
    right, was_right = (_ranks(x, targets) == 0 for x in (logits, reference))
    gained, lost = (float(kind.sum()) + 0.5 for kind in (right & ~was_right, was_right & ~right))
    count = len(targets) + 2
    return 1.96 * math.sqrt(gained + lost - (gained - lost) ** 2 / count) / count


def agreement(logits: Logits, reference: Logits) -> float:
    """Return the share of rows with the same arg-max (the first of equal ones) in both."""
    return float((logits.argmax(axis=1) == reference.argmax(axis=1)).mean())


def _finite(decibels: float) -> float | None:
    """Return an SQNR as reports have it, None for infinity."""
    return None if decibels == float("inf") else limited_db(decibels)


def measure(
    name: str,
    logits: Logits,
    reference: Logits,
    targets: NDArray[np.int64] | None,
    outputs: Sequence[Output] = (),
) -> Metrics:
    """Compute all metrics of one variant from stored results.

    Parameters
    ----------
    name : str
        The variant.
    logits, reference : float32[images, values]
        Of the variant and of float32.
    targets : int64[images], optional
        Labels.
    outputs : sequence of Output
        What the values are; by default the logits of a classifier.

    Raises
    ------
    CalibrationError
        When results are not numbers, or there are no images.
    """
    assert logits.shape == reference.shape
    if not len(logits):
        raise CalibrationError(
            name, "must be evaluated on at least 1 image", got=0, hint="give images"
        )
    bad = next((i for i, row in enumerate(logits) if not np.isfinite(row).all()), None)
    if bad is not None:
        raise CalibrationError(
            name,
            "must give finite results",
            got=f"nan or inf for image {bad}",
            hint="check the model's weights",
        )
    is_classifier = not outputs or classes_of(outputs) is not None
    parts = [slice(None)] if is_classifier else slices_of(outputs)
    found = [_decibels(reference, logits, part) for part in parts]
    return Metrics(
        name=name,
        images=len(logits),
        top1=top_k(logits, targets, 1) if is_classifier and targets is not None else None,
        top5=top_k(logits, targets, 5) if is_classifier and targets is not None else None,
        agreement=agreement(logits, reference) if is_classifier else None,
        sqnr_db=_worst(plain for plain, _ in found),
        centred_sqnr_db=_worst(middle for _, middle in found),
        outputs=()
        if is_classifier
        else tuple(
            OutputMetrics(name=o.name, shape=o.shape, sqnr_db=plain, centred_sqnr_db=middle)
            for o, (plain, middle) in zip(outputs, found, strict=True)
        ),
        top1_change_margin=change_margin(logits, reference, targets)
        if is_classifier and targets is not None and name != "float32"
        else None,
    )


def _decibels(reference: Logits, values: Logits, part: slice) -> tuple[float | None, float | None]:
    """Return SQNR and centred SQNR of a part of the results, image by image: they may be large."""
    sums = np.zeros(4)
    for ref, own in zip(reference, values, strict=True):
        r, v = (np.asarray(x[np.newaxis, part], np.float64) for x in (ref, own))
        cr, cv = centred(r), centred(v)
        sums += [np.square(x).sum() for x in (r, r - v, cr, cr - cv)]
    signal, noise, middle, middle_noise = sums.tolist()
    return _finite(decibels(signal, noise)), _finite(decibels(middle, middle_noise))


def _worst(found: Iterable[float | None]) -> float | None:
    """Return the least SQNR; None, infinite, where all are."""
    return min((x for x in found if x is not None), default=None)


# ---- running ------------------------------------------------------------------------------------
class Later:
    """A network that is built when it is called first: never, where all results are known.

    Parameters
    ----------
    build : callable ()
        Returns the network.
    """

    def __init__(self, build: Callable[[], Network]) -> None:
        """Build nothing yet."""
        self._build = build
        self._network: Network | None = None
        self._lock = threading.Lock()

    def __call__(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """Run the network on an image."""
        return self.build()(image)

    def build(self) -> Network:
        """Return the network, which is built once."""
        with self._lock:
            if self._network is None:
                self._network = self._build()
            return self._network


class Rows(Protocol):
    """Keeps the results of a network on the images of one data set."""

    def found(self, values: int) -> Mapping[int, NDArray[np.float32]]:
        """Return the results of `values` numbers that are known, by the index of their image."""
        ...

    def keep(self, index: int, row: NDArray[np.float32]) -> None:
        """Keep the result of an image, now or soon."""
        ...

    def write(self) -> None:
        """Keep now what is to be kept soon."""
        ...


#: Computes the rows of images elsewhere: yields the index and the row of each, as they are done.
Elsewhere = Callable[[Sequence[int]], Generator[tuple[int, NDArray[np.float32]], None, None]]


def run_all(
    network: Network | Sequence[Network],
    data: Dataset,
    *,
    values: int,
    progress: Progress | None = None,
    kept: Rows | None = None,
    elsewhere: Elsewhere | None = None,
) -> Logits:
    """Run a network on every image of `data`; return float32[images, values].

    Images are prepared while the engine works (decoding releases the interpreter lock), never more
    than a few ahead, so memory does not grow with the data set.

    Parameters
    ----------
    network : callable, or sequence of equal callables
        float32[1, C, H, W] -> `values` numbers. Of several each runs in a thread of its own, so
        none is called twice at a time; engines that release the interpreter lock use more cores.
    data : Dataset
        The images.
    values : int
        Numbers of all outputs.
    progress : callable, optional
        Told after every image.
    kept : Rows, optional
        Images whose results it has are not run; it gets those of the others.
    elsewhere : callable (indices), optional
        Runs images in place of `network`: on other cores or computers.
    """
    known = {} if kept is None else kept.found(values)
    copies = [network] if callable(network) else list(network)
    result = _table(len(data), values)
    for index, row in known.items():
        result[index] = row
    places = [index for index in range(len(data)) if index not in known]
    found = _here(copies, data, places, values) if elsewhere is None else elsewhere(places)
    try:
        with contextlib.closing(found):
            for done, (index, row) in enumerate(found, len(known) + 1):
                result[index] = row
                if kept is not None:
                    kept.keep(index, row)
                if progress is not None:
                    progress(done, len(data))
    finally:
        if kept is not None:
            kept.write()
    return result


def _here(
    copies: Sequence[Network], data: Dataset, places: Sequence[int], values: int
) -> Generator[tuple[int, NDArray[np.float32]], None, None]:
    """Run images in this process: yield the index and the row of each, in order."""
    missing = data if len(places) == len(data) else data.at(places)
    idle: SimpleQueue[Network] = SimpleQueue()
    for copy in copies:
        idle.put(copy)
    failed = threading.Event()

    def one(image: NDArray[np.float32]) -> NDArray[np.float32]:
        mine = idle.get()
        try:
            if failed.is_set():  # a device that has failed may hang in the next run
                return np.empty(values, np.float32)
            return np.asarray(mine(image), dtype=np.float32).reshape(values)
        except BaseException:
            failed.set()
            raise
        finally:
            idle.put(mine)

    running: deque[tuple[int, Future[NDArray[np.float32]]]] = deque()
    with ThreadPoolExecutor(len(copies)) as pool, contextlib.closing(prefetch(missing)) as some:
        for index, image in zip(places, some, strict=True):
            running.append((index, pool.submit(one, image)))
            while len(running) > len(copies) or (running and index == places[-1]):
                first, future = running.popleft()
                yield first, future.result()


def _table(images: int, values: int) -> Logits:
    """Return float32[images, values], in a temporary file where it is large."""
    if 4 * images * values <= MOST_IN_MEMORY_BYTES:
        return np.empty((images, values), dtype=np.float32)
    return np.memmap(tempfile.TemporaryFile(), np.float32, "w+", shape=(images, values))


def prefetch(
    data: Dataset | Sequence[NDArray[np.float32]], *, ahead: int = 4
) -> Generator[NDArray[np.float32], None, None]:
    """Yield images float32[1, C, H, W] in order, up to `ahead` being prepared meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[NDArray[np.float32]]] = deque()
        try:
            for index in range(len(data)):
                waiting.append(pool.submit(data.__getitem__, index))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class Reference(Protocol):
    """The float32 network."""

    def __call__(self, image: NDArray[np.float32]) -> Logits:
        """Map float32[1, C, H, W] to float32[values]."""
        ...


class OnnxRuntime:
    """The float32 reference: ONNX Runtime on the CPU, one thread.

    Raises
    ------
    UnsupportedModelError
        When ONNX Runtime cannot load or run the model.
    """

    def __init__(self, proto: Any, *, threads: int = 1) -> None:
        """Build a session of the onnx.ModelProto `proto`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors are ours to show
        with _runtime_errors():
            self._session = onnxruntime.InferenceSession(
                proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        self._inputs = [(value.name, tuple(value.shape)) for value in self._session.get_inputs()]

    def __call__(self, image: NDArray[np.float32]) -> Logits:
        """Map float32[1, C, H, W], or a row of several inputs, to float32[values]."""
        names, shapes = zip(*self._inputs, strict=True)
        with _runtime_errors():
            feed = dict(zip(names, inputs_of(image, shapes), strict=True))
            results = self._session.run(None, feed)
        return as_row(results)


@contextlib.contextmanager
def _runtime_errors() -> Iterator[None]:
    """Turn ONNX Runtime's errors into one sentence."""
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    kinds = (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.NotImplemented)
    try:
        yield
    except (*kinds, errors.RuntimeException) as error:
        why = " ".join(str(error).rsplit("Status Message:", maxsplit=1)[-1].split())
        raise UnsupportedModelError(
            "float32",
            "must run on ONNX Runtime, which the variants are compared with",
            got=why.rstrip("."),
            hint="export the model with operators that ONNX Runtime supports",
        ) from None
