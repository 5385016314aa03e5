"""What quantizing makes of one model and its calibration images, kept by what it is made of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from flow.cache.images import image_digests
from flow.cache.keys import UnknownValueError, key_of
from flow.cache.modules import UnknownModuleError, module_digest, packed, unpacked
from flow.cache.store import UNREADABLE, Cache
from flow.cache.values import packed_profiles, read_as, to_json, unpacked_profiles
from flow.program.program import Program
from flow.system.limits import UNLIMITED
from vta_config.errors import FlowError

if TYPE_CHECKING:
    from relay_passes.graph import Module
    from relay_passes.params import TensorProfile

#: What `unpacked` may raise: TVM's errors are of these kinds, too.
_UNREADABLE = (*UNREADABLE, AttributeError)


class KeptQuantization:
    """What a pipeline has made before, of the same model, machine and calibration images.

    Parameters
    ----------
    cache : Cache
        Where it is.
    folded : IRModule
        The float module.
    facts : object
        What everything else depends on, too: the machine.
    """

    def __init__(self, cache: Cache, folded: Module, *facts: object) -> None:
        """Start without images."""
        self._cache = cache
        self._facts: tuple[object, ...] | None = None
        self._images: tuple[str, ...] | None = ()
        if cache.enabled:
            with contextlib.suppress(UnknownModuleError):  # nothing is kept of it
                self._facts = (module_digest(folded), *facts)

    @property
    def digest(self) -> str:
        """What everything is of: model and machine; "" where that has no key."""
        return "" if self._facts is None else key_of(self._facts)

    def start(self, images: object) -> None:
        """Take the calibration images; nothing is kept of those that have no keys."""
        self._images = image_digests(images) if self._facts is not None else None

    def profiles(
        self, facts: object, make: Callable[[], Mapping[str, TensorProfile]]
    ) -> Mapping[str, TensorProfile]:
        """Return the profiles of the tensors, made by `make` where they are not kept."""
        key = self._key("profiles", facts)
        found = unpacked_profiles(self._cache.get("profiles", key) or {}) if key else None
        if found is not None:
            return found
        made = make()
        if key:
            self._cache.put("profiles", key, packed_profiles(made))
        return made

    def module(self, facts: object, make: Callable[[], Module]) -> Module:
        """Return the integer module of some options, made by `make` where it is not kept."""
        key = self._key("modules", facts)
        arrays = self._cache.get("modules", key) if key else None
        if arrays is not None:
            with contextlib.suppress(*_UNREADABLE):  # then it is made and written anew
                return unpacked(arrays)
        made = make()
        if key:
            with contextlib.suppress(UnknownModuleError):  # then it is made anew each time
                self._cache.put("modules", key, packed(made))
        return made

    def value(self, name: str, kind: type[Any], facts: object, make: Callable[[], Any]) -> Any:
        """Return a dataclass or tuple of them, made by `make` where it is not kept."""
        key = self._key(name, facts)
        found = read_as(kind, self._cache.get_text("choices", key)) if key else None
        if found is not None:
            return found
        made = make()
        if key:
            self._cache.put_text("choices", key, to_json(made))
        return made

    def _key(self, kind: str, facts: object) -> str:
        """Return a key, "" where there is none."""
        if self._facts is None or self._images is None:
            return ""
        try:
            return key_of(kind, self._facts, self._images, facts)
        except UnknownValueError:
            return ""


def kept_programs(
    cache: Cache,
    quantized: Module,
    facts: object,
    symbols: Sequence[str],
    make: Callable[[], Iterable[Program]],
) -> tuple[Program, ...]:
    """Return the programs of an integer module, made by `make` where they are not kept.

    Parameters
    ----------
    cache : Cache
    quantized : IRModule
    facts : object
        The machine, and what else the compiler looks at.
    symbols : sequence of str
        The functions that they are of.
    make : callable ()
    """
    key = ""
    if cache.enabled:
        with contextlib.suppress(UnknownModuleError, UnknownValueError):
            key = key_of("programs", module_digest(quantized), facts)
    arrays = cache.get("programs", key) if key else None
    if arrays is not None:
        try:
            files = [arrays[f"program-{i}"].tobytes() for i in range(len(arrays))]
            found = tuple(Program.from_bytes(file, limits=UNLIMITED) for file in files)
        except (*_UNREADABLE, FlowError):
            found = ()
        if found and [program.symbol for program in found] == list(symbols):
            return found
    made = tuple(make())
    if key and made:
        files = [program.to_bytes() for program in made]
        named = {f"program-{i}": np.frombuffer(file, np.uint8) for i, file in enumerate(files)}
        cache.put("programs", key, named)
    return made


def compiled_key(quantized: Module, programs: Sequence[Program], *facts: object) -> str:
    """Return a key of everything that computes results, "" where there is none.

    Parameters
    ----------
    quantized : IRModule
        The integer module, whose parts that are in no program run on the host.
    programs : sequence of Program
    *facts : object
        What runs them.
    """
    try:
        digests = [sha256(program.to_bytes()).hexdigest() for program in programs]
        return key_of(module_digest(quantized), digests, facts)
    except (UnknownModuleError, UnknownValueError):
        return ""
