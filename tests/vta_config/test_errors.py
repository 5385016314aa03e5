"""The one form of every error: where: what must hold, got what; what to do."""

from __future__ import annotations

import pickle

import pytest

from vta_config import errors
from vta_config.errors import EncodeError, FlowError


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (FlowError("x.json", "must exist"), "x.json: must exist"),
        (FlowError("a", "must be 1", got=2), "a: must be 1, got 2"),
        (FlowError("a", "must be 1", got=None), "a: must be 1, got None"),
        (FlowError("a", "must be 1", hint="do this"), "a: must be 1; do this"),
        (
            EncodeError("LOAD.x_pad_0", "must be in [0, 15]", got=16, hint="conv1 tile (0, 3)"),
            "LOAD.x_pad_0: must be in [0, 15], got 16; conv1 tile (0, 3)",
        ),
    ],
)
def test_sentence(error: FlowError, sentence: str) -> None:
    assert str(error) == sentence


def test_a_finished_sentence_is_kept() -> None:
    error = errors.HazardError.from_sentence("insn 3: must wait")
    assert isinstance(error, errors.HazardError)
    assert str(error) == "insn 3: must wait"


def test_an_error_travels_between_processes() -> None:
    sent = EncodeError("LOAD.x_pad_0", "must be in [0, 15]", got=16)
    sent.place = 3  # type: ignore[attr-defined]
    error = pickle.loads(pickle.dumps(sent))
    assert type(error) is EncodeError
    assert (str(error), error.place) == ("LOAD.x_pad_0: must be in [0, 15], got 16", 3)


def test_every_kind_is_a_flow_error_with_a_docstring() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, Exception)]
    names = {kind.__name__ for kind in kinds}
    assert names == {
        "FlowError",
        "ConfigError",
        "UnsupportedModelError",
        "CalibrationError",
        "CapacityError",
        "LimitError",
        "EncodeError",
        "DecodeError",
        "HazardError",
        "DeadlockError",
        "ArtifactError",
        "DownloadError",
        "DriverError",
        "ClusterError",
    }
    assert all(issubclass(kind, FlowError) and kind.__doc__ for kind in kinds)
