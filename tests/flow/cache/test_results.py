"""What is measured of a variant is kept by its key and the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flow.cache.results import KeptResults
from flow.cache.store import Cache, files_in
from flow.data.datasets import Dataset, random_images
from flow.results.layer_facts import LayerFacts

IMAGES = random_images((1, 2, 3, 4), 3)
FACTS = (LayerFacts(name="a", kind="conv2d", tensor="a", sqnr_db=1 / 3),)


def results(folder: Path | None, key: str = "key") -> KeptResults:
    return KeptResults(Cache(folder), lambda: key)


def test_rows_by_image_or_by_image_and_place(tmp_path: Path) -> None:
    for ordered in (False, True):
        kept = results(tmp_path).rows(f"kind-{ordered}", IMAGES, ordered=ordered)
        assert kept is not None
        kept.keep(1, np.ones(1, np.float32))
        kept.write()
        for images, place in ((IMAGES, 1), (IMAGES.at([1]), 0)):
            again = results(tmp_path).rows(f"kind-{ordered}", images, ordered=ordered)
            assert again is not None
            assert list(again.found(1)) == ([] if ordered and place == 0 else [place])
        other = results(tmp_path, "other").rows(f"kind-{ordered}", IMAGES, ordered=ordered)
        assert other is not None and not other.found(1)


def test_layers(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> tuple[LayerFacts, ...]:
        made.append(1)
        return FACTS

    for _ in range(2):
        assert results(tmp_path).layers(IMAGES, make) == FACTS
    assert len(made) == 1
    results(tmp_path).layers(IMAGES.at([0]), make)
    results(tmp_path, "other").layers(IMAGES, make)
    assert len(made) == 3


def test_without_a_key_or_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    def never() -> str:
        raise AssertionError

    for kept in (results(tmp_path, ""), KeptResults(Cache(None), never)):
        assert kept.rows("kind", IMAGES) is None
        assert kept.layers(IMAGES, lambda: FACTS) == FACTS
    assert results(tmp_path).rows("kind", [np.zeros(3)]) is None
    odd: Dataset = [np.zeros(3)]  # type: ignore[assignment]
    assert results(tmp_path).layers(odd, lambda: FACTS) == FACTS
    assert not files_in(tmp_path)
