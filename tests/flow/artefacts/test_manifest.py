"""The manifest: written and read back; every key that is wrong is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flow.artefacts.load import load_artefact
from flow.artefacts.manifest import MANIFEST_FILE, Manifest
from vta_config.errors import ArtifactError


@pytest.fixture
def manifest(one: Path) -> Manifest:
    found = load_artefact(one).manifest
    assert found is not None
    return found


def test_read_back(manifest: Manifest, two: Path) -> None:
    other = load_artefact(two).manifest
    assert other is not None
    for each in (manifest, other, replace(manifest, library=None, plan=None, preprocessing=None)):
        assert Manifest.from_bytes(each.to_bytes(), "m") == each


def test_what_it_says(manifest: Manifest) -> None:
    values = manifest.to_json()
    assert list(values) == [
        "schema_version", "model", "machine", "inputs", "outputs", "preprocessing", "programs",
        "library", "plan", "scales", "versions",
    ]  # fmt: skip
    assert values["model"]["name"] == "tiny" and values["model"]["variant"] == "single_scale"
    (own,) = values["inputs"]
    assert (own["name"], own["shape"], own["layout"]) == ("data", [1, 3, 8, 8], "NCHW")
    (tensor,) = own["tensors"]
    assert tensor["dtype"] == "int8" and tensor["scale"] == 1 / tensor["multiplier"]
    (output,) = values["outputs"]
    assert (output["name"], output["shape"]) == ("logits", [1, 5])
    assert output["tensor"]["dtype"] == "int32" and output["tensor"]["shape"] == (1, 5, 1, 1)
    assert values["preprocessing"]["height"] == 8
    assert values["machine"]["NAME"] == "default"
    assert manifest.classes == 5
    assert values["versions"].keys() >= {"python", "vta-flow", "apache-tvm", "numpy"}


def test_where_the_library_is_needed(manifest: Manifest, two: Path) -> None:
    assert not manifest.needs_library([["data.q"]])
    assert manifest.needs_library([["data.q", "another"]])
    assert manifest.is_one_program([["data.q"]], 1)
    assert not manifest.is_one_program([["data.q"]], 2)
    assert not manifest.is_one_program([["data.q", "another"]], 1)
    output = replace(manifest.outputs[0], tensor=None)
    assert replace(manifest, outputs=(output,)).needs_library([["data.q"]])
    assert load_artefact(two).needs_library


def wrong(values: dict[str, Any], path: str, value: Any) -> bytes:
    """Put `value` at a place such as inputs.0.name; return the file."""
    at: Any = values
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in way:
        at = at[key]
    at[last] = value
    return json.dumps(values).encode()


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("schema_version", 2, "must have a schema_version of at most 1, got 2; use a newer"),
        ("schema_version", 0, r"schema_version: must be an integer in \[1, "),
        ("machine.LOG_BLOCK", 40, "machine: must be a machine, got "),
        ("inputs", [], "inputs: must be at least one input, got none"),
        ("inputs.0.dtype", "int8", r"inputs\[0\].dtype: must be one of float32"),
        ("inputs.0.layout", "CHW", r"inputs\[0\].layout: must be one of NCHW, NHWC"),
        ("inputs.0.tensors.0.shape", [1], r"inputs\[0\].tensors\[0\].shape: must be a list of 4"),
        ("inputs.0.tensors.0.multiplier", 0, r"multiplier: must be a finite number above 0"),
        ("inputs.0.tensors.0.qmax", 128, r"qmax: must be an integer in \[-128, 127\]"),
        (
            "inputs.0.tensors.0.shape",
            [1, 3, 8, 9],
            r"inputs\[0\].tensors: must have as many numbers as \[1, 3, 8, 8\], got \[1, 3, 8, 9\]",
        ),
        ("outputs.0.shape", [1, 6], r"outputs\[0\].tensor: must have as many numbers as \[1, 6\]"),
        (
            "preprocessing.height",
            9,
            r"preprocessing: must make the shape of the input, got \[1, 3, 9",
        ),
        ("outputs.0.tensor.scale", [1, 1], r"scale: must be a list of 1 or 5 finite numbers"),
        ("outputs.0.tensor.dtype", "int16", "dtype: must be one of int8, int32"),
        ("programs.0.file", "../x.vta", r"programs\[0\].file: must be the name of a file in the"),
        ("preprocessing.std", [0, 1, 1], "preprocessing.std: must not be 0"),
        ("preprocessing.resize", [1], "preprocessing.resize: must be a list of 2 dimensions"),
        ("library.platform", None, "library.platform: must be a string"),
        ("versions.python", 3, "versions.python: must be a string"),
    ],
)
def test_wrong_keys(manifest: Manifest, path: str, value: Any, sentence: str) -> None:
    with pytest.raises(ArtifactError, match=f"m: {sentence}|m: .*{sentence}"):
        Manifest.from_bytes(wrong(manifest.to_json(), path, value), "m")


def test_a_picture_resized_as_a_whole(manifest: Manifest) -> None:
    assert manifest.preprocessing is not None
    whole = replace(manifest.preprocessing, resize=(8, 9))
    again = Manifest.from_bytes(replace(manifest, preprocessing=whole).to_bytes(), MANIFEST_FILE)
    assert again.preprocessing == whole
