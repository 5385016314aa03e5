"""What the user says of a model's input: options, and the file beside the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flow.input_request import InputRequest, parse_request, read_sidecar, sidecar_of
from vta_config.errors import ConfigError


@pytest.mark.parametrize("text", ["1,3,48,192", "1x3x48x192", "1 3 48 192", [1, 3, 48, 192]])
def test_shapes_are_written_in_several_ways(text: Any) -> None:
    assert parse_request({"input_shape": text}).shape == (1, 3, 48, 192)


def test_all_options() -> None:
    found = parse_request(
        {"mean": "0.5", "std": [0.1, 0.2, 0.3], "scale": 1, "resize": "240x320", "layout": "NHWC"}
    )
    assert found == InputRequest(
        mean=(0.5,), std=(0.1, 0.2, 0.3), scale=1.0, resize=(240, 320), layout="NHWC"
    )
    assert parse_request({"mean": None}) == InputRequest()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"input_shape": "1,3,x"}, r"--input-shape: must be numbers, got 1,3,x; for example 1,3,2"),
        ({"resize": "32x"}, r"--resize: must be numbers, got 32x; for example 256 or 240x320"),
        ({"input_shape": "1,0"}, r"--input-shape: must be numbers from 1 on, got \[1, 0\]"),
        ({"input_shape": [1.5]}, r"--input-shape: must be numbers, got \[1.5\]"),
        ({"input_shape": [True]}, r"--input-shape: must be numbers, got \[True\]"),
        ({"mean": "nan"}, r"--mean: must be finite numbers, got \[nan\]"),
        ({"std": "0.5,0"}, r"--std: must not be 0, got \[0.5, 0.0\]"),
        ({"scale": "1,2"}, r"--scale: must be one number, got 1,2"),
        ({"scale": "0"}, r"--scale: must be a finite number other than 0, got 0.0"),
        ({"resize": "1,2,3"}, r"--resize: must be 1 or 2 sizes up to 65536, got \[1, 2, 3\]"),
        ({"resize": "0"}, r"--resize: must be 1 or 2 sizes"),
        ({"crop": "left"}, r"--crop: must be one of center, none, got left"),
        ({"layout": "CHWN"}, r"--layout: must be one of NCHW, NHWC, got CHWN"),
        (
            {"crop": "none", "resize": "8x9"},
            r"--resize: must not be given with --crop none",
        ),
        ({"mean": {}}, r"--mean: must be numbers, got \{\}"),
    ],
)
def test_what_cannot_be(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_request(values)


def test_options_come_before_the_file() -> None:
    file = InputRequest(mean=(0.5,), resize=(256,), shape=(1, 3, 8, 8))
    assert InputRequest(mean=(0.1,)).over(file) == InputRequest(
        mean=(0.1,), resize=(256,), shape=(1, 3, 8, 8)
    )
    # Resizing and cropping are one decision.
    assert InputRequest(crop="none").over(file).resize is None
    assert InputRequest(resize=(32,)).over(InputRequest(crop="none")).crop is None


@pytest.mark.parametrize("name", ["net.onnx", "net.onnx.xz"])
def test_file_beside_the_model(tmp_path: Path, name: str) -> None:
    model = tmp_path / name
    assert sidecar_of(model) == tmp_path / "net.input.json"
    assert read_sidecar(model) == InputRequest()
    text = json.dumps({"input_shape": [1, 3, 48, 192], "mean": 0.5, "crop": "none"})
    (tmp_path / "net.input.json").write_text(text)
    assert read_sidecar(model) == InputRequest(shape=(1, 3, 48, 192), mean=(0.5,), crop="none")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", r"net.input.json: must be a JSON file, got "),
        ("[1]", r"net.input.json: must be a JSON object with keys among .*, got no object"),
        ('{"means": 1, "a": 2}', r"net.input.json: must be a JSON object .*, got a, means; corr"),
        ('{"mean": "x"}', r"^[^:]*net.input.json: mean: must be numbers, got x; "),
        ('{"scale": [1, 2]}', r"^[^:]*net.input.json: scale: must be one number, got \[1, 2\]"),
        ('{"input_shape": [0]}', r"^[^:]*net.input.json: input_shape: must be numbers from 1 on"),
        ('{"crop": "left"}', r"^[^:]*net.input.json: crop: must be one of center, none"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "net.input.json").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        read_sidecar(tmp_path / "net.onnx")
    (tmp_path / "net.input.json").unlink()
    (tmp_path / "net.input.json").mkdir()
    with pytest.raises(ConfigError, match=r"must be a JSON file, got a folder"):
        read_sidecar(tmp_path / "net.onnx")
