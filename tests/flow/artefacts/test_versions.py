"""Versions of packages, installed or not."""

from __future__ import annotations

import importlib.metadata
import platform

import pytest

from flow.artefacts import versions as module


def test_versions_of_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    found = module.versions()
    assert found["python"] == platform.python_version()
    assert found["numpy"] == importlib.metadata.version("numpy")
    monkeypatch.setattr(module, "_PACKAGES", ("no-such-package-of-anybody",))
    assert module.versions()["no-such-package-of-anybody"] == "not installed"


def test_host() -> None:
    assert module.host_platform() == f"{platform.system()} {platform.machine()}"
