"""The layout of a graph: rows go down, boxes do not overlap, long edges go around boxes."""

from __future__ import annotations

import random
import time
from itertools import pairwise

import pytest

from flow.html.graph_layout import Layout, lay_out

BOX, POINT, GAP = 200.0, 10.0, 20.0


def laid(count: int, edges: list[tuple[int, int]]) -> Layout:
    found = lay_out(count, edges, box=BOX, point=POINT, gap=GAP)
    assert len(found.rows) == len(found.centres) == count
    boxes: dict[int, list[tuple[float, float]]] = {}
    for row, centre in zip(found.rows, found.centres, strict=True):
        assert -1e-6 <= centre - BOX / 2 and centre + BOX / 2 <= found.width + 1e-6
        boxes.setdefault(row, []).append((centre, BOX / 2))
    for source, _, points in found.edges:
        for k, point in enumerate(points, start=found.rows[source] + 1):
            boxes.setdefault(k, []).append((point, POINT / 2))
    for own in boxes.values():
        for (a, u), (b, v) in pairwise(sorted(set(own))):
            assert b - a >= u + v + GAP - 1e-6
    for source, target, points in found.edges:
        assert found.rows[target] - found.rows[source] == len(points) + 1
    return found


def test_a_chain_is_straight() -> None:
    found = laid(5, [(k, k + 1) for k in range(4)])
    assert found.rows == (0, 1, 2, 3, 4) and len(set(found.centres)) == 1
    assert found.width == BOX


def test_residual_blocks_go_around() -> None:
    edges = [(0, 1), (1, 2), (0, 2), (2, 3), (3, 4), (2, 4)]
    found = laid(5, edges)
    assert found.rows == (0, 1, 2, 3, 4)
    assert {(u, v): len(p) for u, v, p in found.edges}[0, 2] == 1
    assert max(found.centres) - min(found.centres) < BOX / 2  # boxes stay below each other


def test_branches_do_not_cross() -> None:
    # Two branches of three boxes, read in the other order at the end.
    edges = [(0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6), (6, 7), (5, 7)]
    found = laid(8, edges)
    side = [found.centres[a] < found.centres[b] for a, b in ((1, 2), (3, 4), (5, 6))]
    assert len(set(side)) == 1


def test_what_nothing_leads_to_stands_above_its_reader() -> None:
    assert laid(4, [(0, 1), (1, 3), (2, 3)]).rows == (0, 1, 1, 2)


def test_edges_that_lead_back_or_nowhere_are_left_out() -> None:
    found = laid(3, [(0, 1), (1, 0), (2, 2), (1, 9), (-1, 1), (0, 1), (1, 2)])
    assert [(u, v) for u, v, _ in found.edges] == [(0, 1), (1, 2)]
    assert laid(0, []).edges == ()


@pytest.mark.parametrize("seed", range(8))
def test_any_graph(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randint(1, 40)
    edges = [(rng.randrange(v), v) for v in range(1, count) for _ in range(rng.randint(1, 3))]
    laid(count, edges)


def test_deep_networks_are_fast() -> None:
    edges = [(k, k + 1) for k in range(429)] + [(k, k + 3) for k in range(0, 427, 3)]
    edges += [(0, 429)]
    begin = time.perf_counter()
    lay_out(430, edges, box=BOX, point=POINT, gap=GAP)
    assert time.perf_counter() - begin < 2
