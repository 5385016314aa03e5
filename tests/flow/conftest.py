"""What tests of the command line share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from flow import deploy as jobs
from flow import session
from flow.results.estimate import Estimate
from flow.results.generate import schema
from flow.results.report import Report
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


@cache
def validator(name: str) -> Draft202012Validator:
    """Return what checks a file: no key may be missing, and none may be unknown."""
    return Draft202012Validator(schema(name, closed=True))


def checked(to_json: Callable[[Any], dict[str, Any]], name: str) -> Callable[[Any], dict[str, Any]]:
    """Return `to_json` with a check of what it returns."""

    def wrapped(self: Any) -> dict[str, Any]:
        value = to_json(self)
        validator(name).validate(json.loads(json.dumps(value)))
        return value

    return wrapped


@pytest.fixture(autouse=True, scope="session")
def _every_report_is_valid() -> Iterator[None]:
    """Check every report and estimate that a test makes against its JSON Schema."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Report, "to_json", checked(Report.to_json, "report.schema.json"))
        patch.setattr(Estimate, "to_json", checked(Estimate.to_json, "estimate.schema.json"))
        yield
