"""tests.cores: workers share what there is."""

from __future__ import annotations

import pytest

from tests.cores import cores_of


@pytest.mark.parametrize(
    ("workers", "cores", "shares"),
    [
        (2, [0, 1], [{0}, {1}]),
        (2, [3, 5, 8, 9], [{3, 8}, {5, 9}]),
        (3, [0, 1], [{0}, {1}, {0}]),
        (1, [0, 1], [{0, 1}]),
    ],
)
def test_each_worker_has_its_share(workers: int, cores: list[int], shares: list[set[int]]) -> None:
    assert [cores_of(worker, workers, cores) for worker in range(workers)] == shares
