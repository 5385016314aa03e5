"""A data set in ranges of images: what workers compute of them.

A range has the same images however many workers there are, and what comes back tells which they
are, so that results do not depend on who computed them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flow.data.datasets import Dataset, FileSource
from flow.data.tensors import RowSource, TensorSource
from flow.parallel.run import run_all
from flow.parallel.shared import Shared
from flow.results.evaluate import Elsewhere, Network, OnnxRuntime
from flow.worker_request import Workers
from vta_config.errors import CalibrationError

#: Images in a range: some tenths of a second of work.
RANGE_IMAGES: Final = 16
#: Rows of numbers by the indices of their images.
Found = tuple[tuple[int, ...], NDArray[np.float32]]


def ranges_of(places: Sequence[int]) -> list[tuple[int, ...]]:
    """Cut the indices of images into ranges, the last one of which may be shorter."""
    return [
        tuple(places[first : first + RANGE_IMAGES]) for first in range(0, len(places), RANGE_IMAGES)
    ]


def rows_elsewhere(
    sent: object, start: Callable[[Any], Network], data: Dataset, workers: Workers
) -> Elsewhere:
    """Return what computes rows of results of some images.

    Parameters
    ----------
    sent : object
        A network as it travels.
    start : callable
        A function of a module, which makes the network of it.
    data : Dataset
        Its files are found at the same paths by all workers.
    workers : Workers
        On this machine threads: engines work without the interpreter's lock.
    """

    def rows(
        places: Sequence[int],
    ) -> Generator[tuple[int, NDArray[np.float32]], None, None]:
        function = partial(_rows_of, Shared.of(sent), Shared.of(data), start)
        found = run_all(
            function,
            ranges_of(places),
            jobs=workers.jobs,
            cluster=workers.cluster,
            threads=True,
            in_order=False,
        )
        for own, values in found:
            yield from zip(own, values, strict=True)

    return rows


def _rows_of(
    sent: Shared, data: Shared, start: Callable[[Any], Network], places: tuple[int, ...]
) -> Found:
    """Run a range of images."""
    network, images = sent.opened(start), data.opened(checked)
    rows = [np.asarray(network(images[place]), np.float32).reshape(-1) for place in places]
    return places, np.stack(rows)


@dataclass(frozen=True, slots=True)
class SentFloat:
    """A float32 model as it travels.

    Parameters
    ----------
    model : bytes
        The onnx.ModelProto.
    """

    model: bytes


def start_float(sent: SentFloat) -> Network:
    """Start ONNX Runtime."""
    import onnx

    return OnnxRuntime(onnx.load_model_from_string(sent.model))


def checked(data: Dataset) -> Dataset:
    """Return a data set whose files can be read here, too.

    Raises
    ------
    CalibrationError
        When the first one is not there.
    """
    first = next(_files(data.source), None)
    if first is not None and not first.exists():
        raise CalibrationError(
            str(first),
            "must be readable at this path by each worker",
            got=f"no such file on {socket.gethostname()}",
            hint="share the folder, or copy it to the same place there",
        )
    return data


def _files(source: object) -> Iterator[Any]:
    """Yield the files of a source of images."""
    if isinstance(source, FileSource):
        yield from source.paths
    elif isinstance(source, TensorSource):
        yield from (array.path for array in source.arrays)
    elif isinstance(source, RowSource):
        for own in source.sources:
            yield from _files(own)
