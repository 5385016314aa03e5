"""Every pass in these tests runs between checks that the module is well-formed."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

import pytest
import tvm
from tvm.relax.ir.instrument import WellFormedInstrument

from relay_passes.calibration.profiling import profile
from relay_passes.quantize_model import prepare
from tests.relay_passes.models import images, residual_net


@pytest.fixture(autouse=True)
def _well_formed() -> Iterator[None]:
    with tvm.transform.PassContext(instruments=[WellFormedInstrument()]):
        yield


@pytest.fixture(scope="session")
def net() -> Any:
    """A residual network, folded and named."""
    return prepare(residual_net())


@pytest.fixture(scope="session")
def profiles(net: Any) -> Any:
    """Its profiles on two images."""
    return profile(net, images(2))


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch is not installed."""
    load = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "torch":
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
