"""Calls as messages."""

from __future__ import annotations

import pickle
from functools import partial

import pytest

from flow.parallel import messages
from flow.parallel.messages import call, packed_calls
from flow.parallel.shared import Shared
from tests.flow.parallel.work import scaled, square
from vta_config.errors import ClusterError


def test_a_message_is_small() -> None:
    one, two = Shared.of(bytes(1 << 20)), Shared.of(bytes(1 << 19))
    sent, shared = packed_calls(partial(scaled, one, 7), [1, 2])
    assert shared == (one,) and all(len(message) < 300 for message in sent)
    assert [call(message, *shared) for message in sent] == [(1 << 20) + 7, (2 << 20) + 7]
    _, shared = packed_calls(partial(scaled, one, one, two), [1])
    assert shared == (one, two)
    (message,), shared = packed_calls(square, [4])
    assert (call(message), shared) == (16, ())


def test_a_message_from_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    (message,), _ = packed_calls(square, [4])
    other = ("0.0.1 (abc)", *pickle.loads(message)[1:])
    with pytest.raises(
        ClusterError,
        match=r"^--cluster: must have vta-flow 0\.0\.1 \(abc\) on all workers, also on those that "
        r"come later, got .*\); install the same version there$",
    ):
        call(pickle.dumps(other))
    monkeypatch.setattr(messages, "sources", lambda: "f" * 64)
    assert messages.version.__wrapped__().endswith(" (ffffffffffff)")
