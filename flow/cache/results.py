"""What is measured of one compiled variant, kept by its programs, its host part and the images."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from flow.cache.images import image_digests
from flow.cache.keys import key_of
from flow.cache.rows import KeptRows
from flow.cache.store import Cache
from flow.cache.values import read_as, to_json
from flow.data.datasets import Dataset
from flow.results.layer_facts import LayerFacts


class KeptResults:
    """What one compiled variant gave on images.

    Parameters
    ----------
    cache : Cache
        Where it is.
    key : callable ()
        Returns what all of it depends on, "" where that has no key.
    """

    def __init__(self, cache: Cache, key: Callable[[], str]) -> None:
        """Start without a key."""
        self._cache, self._make_key = cache, key

    @cached_property
    def _key(self) -> str:
        return self._make_key() if self._cache.enabled else ""

    def rows(self, kind: str, images: object, *, ordered: bool = False) -> KeptRows | None:
        """Return what keeps a row of numbers by image; None where nothing does.

        Parameters
        ----------
        kind : str
            What the numbers are.
        images : Dataset
        ordered : bool
            Whether they depend on the place of the image, too.
        """
        digests = image_digests(images) if self._key else None
        if digests is None:
            return None
        if ordered:
            digests = tuple(f"{index} {digest}" for index, digest in enumerate(digests))
        return KeptRows(self._cache, kind, key_of(self._key), digests)

    def layers(
        self, images: Dataset, make: Callable[[], tuple[LayerFacts, ...]]
    ) -> tuple[LayerFacts, ...]:
        """Return what is known of layers, made by `make` where it is not kept."""
        digests = image_digests(images) if self._key else None
        if digests is None:
            return make()
        key = key_of("layers", self._key, digests)
        found: tuple[LayerFacts, ...] | None = read_as(tuple, self._cache.get_text("layers", key))
        if found is not None:
            return found
        made = make()
        self._cache.put_text("layers", key, to_json(made))
        return made
