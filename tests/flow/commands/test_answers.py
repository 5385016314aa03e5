"""What a network answers, as a table and as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from flow.commands.answers import Answers, answers_of, class_names
from flow.data.datasets import random_images
from flow.outputs import Output
from vta_config.errors import ArtifactError, CalibrationError

LOGITS = (Output(name="logits", shape=(1, 3)),)
TWO = (Output(name="a/b", shape=(1, 2)), Output(name="c", shape=(1, 1, 2, 2)))


def shown(answers: Answers, outputs: tuple[Output, ...], names: list[str]) -> list[list[str]]:
    console = Console(width=120, record=True, file=Path("/dev/null").open("w"))
    console.print(answers.table(outputs, names, 2))
    lines = (line for line in console.export_text().splitlines() if "│" in line)
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_classes() -> None:
    data = random_images((1, 2), 1)
    answers = answers_of(data, lambda image: np.array([[1, 3, 2]], np.float32), LOGITS)
    rows = shown(answers, LOGITS, ["zero", "one"])
    assert rows == [["random tensor 0", "1", "one", "3.0000"], ["", "2", "", "2.0000"]]
    assert shown(answers, LOGITS, []) == [["random tensor 0", "1", "3.0000"], ["", "2", "2.0000"]]


def test_ranges_and_files(tmp_path: Path) -> None:
    data = random_images((1, 2), 2)
    answers = answers_of(data, lambda image: np.arange(6.0), TWO, tmp_path / "out")
    rows = shown(answers, TWO, [])
    assert rows[0] == ["random tensor 0", "a/b", "1×2", "0.0000", "0.5000", "1.0000"]
    assert rows[1] == ["", "c", "1×1×2×2", "2.0000", "3.5000", "5.0000"]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["0.a_b.npy", "0.c.npy", "1.a_b.npy", "1.c.npy"]
    array = np.load(tmp_path / "out" / "1.c.npy")
    assert array.dtype == np.float32 and array.tolist() == [[[[2, 3], [4, 5]]]]
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="must be writable, got .*; choose another --save"):
        answers.save(tmp_path / "file")


def test_outputs_whose_names_are_much_the_same(tmp_path: Path) -> None:
    array = np.zeros(2, np.float32)
    Answers(images=("x",), outputs=("a/b", "a:b"), values=((array, array),)).save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.0.a_b.npy", "0.1.a_b.npy"]


def test_integers_are_whole() -> None:
    array = np.array([[-5, 8]], np.int32)
    answers = Answers(images=("x",), outputs=("y",), values=((array,),))
    assert shown(answers, TWO, [])[0][3:] == ["-5", "1.5000", "8"]


def test_names_of_classes(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    assert class_names(tmp_path / "names.txt") == ["cat", "dog"] and class_names(None) == []
    with pytest.raises(CalibrationError, match="no.txt: must be a text file with one class name p"):
        class_names(tmp_path / "no.txt")


def test_answers_as_json() -> None:
    data = random_images((1, 2), 1)
    answers = answers_of(data, lambda image: np.array([[1, np.inf, 2]], np.float32), LOGITS)
    assert answers.to_json(LOGITS, ["zero", "one"], 2) == [
        {
            "image": "random tensor 0",
            "classes": [
                {"class": 1, "name": "one", "logit": None}, {"class": 2, "name": "", "logit": 2.0},
            ],
        }
    ]  # fmt: skip
    whole = Answers(images=("x",), outputs=("y",), values=((np.array([[-5, 8]], np.int8),),))
    assert json.loads(json.dumps(whole.to_json())) == [
        {
            "image": "x",
            "outputs": [{"name": "y", "shape": [1, 2], "least": -5, "mean": 1.5, "largest": 8}],
        }
    ]
