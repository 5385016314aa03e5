"""What tests of the command line share."""

from __future__ import annotations

import pytest

from flow import deploy as jobs
from flow import session
from tests.flow.fakes import FakeBackend


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeBackend]:
    """Put the fake backend where the command line takes the real one from."""

    class Backend(FakeBackend):
        pass

    for function in (jobs.deploy, session.open_session):
        defaults = {**(function.__kwdefaults__ or {}), "factory": Backend}
        monkeypatch.setattr(function, "__kwdefaults__", defaults)
    return Backend
