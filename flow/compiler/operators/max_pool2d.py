"""Lowering of max-pools: ALU MAX over shifted views."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

from flow.compiler.buffers import SlotPool
from flow.compiler.epilogue import finish_tile
from flow.compiler.geometry import Dim, split, view
from flow.compiler.operators.operator import Lowerer
from flow.compiler.shapes import Capacity, ConvShape
from flow.compiler.tiling import extents
from flow.program.layouts import blocks
from vta_config.errors import CapacityError
from vta_config.origin import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.order import Job
    from flow.compiler.workbench import Workbench


def max_pool(bench: Workbench, normal: NormalLayer) -> Iterator[Job]:
    """Take maxima over shifted views: the window copied to acc, then ALU MAX into the tile.

    The view through the tap that undoes the padding lies inside the picture for every output, so it
    starts the maximum; the other views are cut to the picture, so that padding never takes part.
    """
    layer, shape, emit = normal.layer, normal.shape, bench.emit
    sizes = ((shape.out_height, shape.height), (shape.out_width, shape.width))
    if any(
        (out - 1) * stride >= size for (out, size), stride in zip(sizes, shape.stride, strict=True)
    ):
        raise CapacityError(
            layer.name,
            "must start every window inside the picture",
            got=layer.out_shape,
            hint="leave it on the host",
        )
    axes = tuple(zip(shape.padding, shape.dilation, shape.kernel, strict=True))
    if any(padding % step or padding // step >= taps for padding, step, taps in axes):
        raise CapacityError(
            layer.name,
            "must be padded by less than its kernel, in whole steps of its dilation",
            got=layer.padding,
            hint="leave it on the host",
        )
    if normal.all_residuals or shape.constants:
        raise CapacityError(
            layer.name,
            "must not be followed by an addition",
            got="an addition",
            hint="leave it on the host",
        )
    oc_each, oh, ow = _pool_tile(shape, bench.residents.capacity, layer.name)
    most = oc_each * _window_elems(shape, oh, ow)
    bench.begin_layer(
        normal, inp={"chunk": SlotPool(most)}, wgt=SlotPool(1), acc=most + oc_each * oh * ow
    )
    identity, planes = bench.residents.diagonal_at[1], bench.tensors[layer.inputs[0]].planes
    whole = tuple(padding // step for padding, step, _ in axes)
    taps = sorted(
        product(range(shape.kernel[0]), range(shape.kernel[1])),
        key=lambda tap: tap != whole,
    )
    splits = (split(shape.oc, oc_each), split(shape.out_height, oh), split(shape.out_width, ow))
    for n, oc, oy, ox in product(bench.batches(layer), *splits):
        tile = bench.tile(layer, n, oc, oy, ox)
        y, x = (shape.axis(out, axis).window for axis, out in enumerate((oy, ox)))
        area = y.count * x.count
        reads = tile.origin.to(Purpose.INPUT)
        origin = tile.origin.to(Purpose.POOL)
        copied = tile.acc + tile.vectors
        copy = (Dim(oc.count * area, 1, 1),)
        jobs: list[Job] = []
        for plane in reversed(range(planes)):
            job = bench.new_job()
            base, loads = bench.place_input(job, (layer.name, plane, n, oc, oy, ox))
            assert loads is not None
            name = layer.inputs[0]
            loads += emit.load_window(name, base, n, oc, y, x, reads, plane=plane)
            if jobs:
                shift = emit.alu("shr", copy, (copied, copied), origin, imm=-bench.config.inp_bits)
                job.body.append(shift)
            else:
                vectors = tile.vectors + oc.count * area
                job.body.append(emit.reset(tile.acc, vectors, tile.origin))
            job.body.append(emit.gemm(copy, (copied, base, identity), origin))
            jobs.append(job)
        for index, tap in enumerate(taps):
            offsets = [
                k * d - p for k, d, p in zip(tap, shape.dilation, shape.padding, strict=True)
            ]
            rows = view(oy, offset=offsets[0], stride=shape.stride[0], size=shape.height)
            columns = view(ox, offset=offsets[1], stride=shape.stride[1], size=shape.width)
            if not rows.count or not columns.count:
                continue
            dst = (rows.start - oy.start) * ox.count + columns.start - ox.start
            src = (rows.start * shape.stride[0] + offsets[0] - y.start) * x.count
            src += columns.start * shape.stride[1] + offsets[1] - x.start
            dims = (
                Dim(rows.count, ox.count, shape.stride[0] * x.count),
                Dim(columns.count, 1, shape.stride[1]),
                Dim(oc.count, tile.area, area),
            )
            if index:
                job.body.append(emit.alu("max", dims, (tile.acc + dst, copied + src), origin))
            elif planes == 1:
                job.body.append(emit.gemm(dims, (tile.acc + dst, base + src, identity), origin))
            else:  # the whole numbers are in acc only
                job.body.append(emit.alu("add", dims, (tile.acc + dst, copied + src), origin))
        yield from finish_tile(bench, normal, tile, jobs)


def _window_elems(shape: ConvShape, oh: int, ow: int) -> int:
    """Return the most inp elements that a block of a tile of oh × ow reads."""
    return shape.window_in(oh, 0) * shape.window_in(ow, 1)


def _pool_tile(shape: ConvShape, capacity: Capacity, where: str) -> tuple[int, int, int]:
    """Choose the tile (blocks, rows, columns) that copies least, two in flight if they fit.

    Raises
    ------
    CapacityError
        When one window does not fit.
    """
    best: tuple[tuple[bool, int, int], tuple[int, int, int]] | None = None
    for oh, ow in product(extents(shape.out_height), extents(shape.out_width)):
        elems = _window_elems(shape, oh, ow)
        fits = min(shape.oc, capacity.inp // elems, capacity.acc // (elems + oh * ow))
        if fits < 1:
            continue
        oc = max(1, fits // 2)
        places = blocks(shape.out_height, oh) * blocks(shape.out_width, ow)
        key = (fits < 2, places * elems * shape.oc, places * blocks(shape.oc, oc))
        if best is None or key < best[0]:
            best = (key, (oc, oh, ow))
    if best is None:
        elems = _window_elems(shape, 1, 1)
        raise CapacityError(
            where,
            f"one window must fit {capacity.inp} inp elements and, with its maximum, {capacity.acc}"
            " acc elements",
            got=f"{elems} and {elems + 1}",
            hint="choose a machine with larger buffers",
        )
    return best[1]


LOWERER: Final = Lowerer(lower=max_pool)
