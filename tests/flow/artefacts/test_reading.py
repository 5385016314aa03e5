"""Each value of a JSON file is what it must be, or one sentence says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from flow.artefacts.reading import Reading
from vta_config.errors import ArtifactError


def reading(**values: object) -> Reading:
    return Reading.of_bytes(json.dumps(values).encode(), "m.json")


def test_values() -> None:
    of = reading(
        text="é", name="vta_0.vta", sha="0" * 64, count=3, ratio=0.5, scales=[1, 0.5],
        dims=[1, 2], deep={"a": "b"}, none=None, rows=[{"x": 1}, {"x": 2}],
    )  # fmt: skip
    assert (of.text("text"), of.file_name("name"), of.digest("sha")) == ("é", "vta_0.vta", "0" * 64)
    assert (of.integer("count", 3, 3), of.number("ratio", positive=True)) == (3, 0.5)
    assert of.numbers("scales", (1, 2)) == (1.0, 0.5) and of.shape("dims", 2) == (1, 2)
    assert of.object("deep").texts() == {"a": "b"} and of.optional("none") is None
    assert [row.integer("x", 0, 9) for row in of.objects("rows")] == [1, 2]
    assert of.choice("text", ("e", "é")) == "é"


@pytest.mark.parametrize(
    ("value", "read", "sentence"),
    [
        (5, lambda of: of.text("x"), "must be a string, got 5"),
        ("\ud800", lambda of: of.text("x"), "must be a string, got "),
        ("b", lambda of: of.choice("x", ("a", "c")), 'must be one of a, c, got "b"'),
        ("A" * 64, lambda of: of.digest("x"), "must be a SHA-256 of 64 hexadecimal digits"),
        ("../x", lambda of: of.file_name("x"), "must be the name of a file in the folder"),
        ("/etc/passwd", lambda of: of.file_name("x"), "must be the name of a file in the folder"),
        (True, lambda of: of.integer("x", 0, 2), r"must be an integer in \[0, 2\], got true"),
        (3, lambda of: of.integer("x", 0, 2), r"must be an integer in \[0, 2\], got 3"),
        ("1", lambda of: of.number("x"), 'must be a finite number, got "1"'),
        (1e39, lambda of: of.number("x"), "must be a finite number"),
        (0, lambda of: of.number("x", positive=True), "must be a finite number above 0, got 0"),
        ([1, 2], lambda of: of.numbers("x", (1, 3)), r"must be a list of 1 or 3 finite numbers"),
        ([1, "a"], lambda of: of.numbers("x", (2,)), "must be a list of 2 finite numbers"),
        ([1, 0], lambda of: of.shape("x"), "must be a list of dimensions of at least 1"),
        ([1, 2], lambda of: of.shape("x", 4), "must be a list of 4 dimensions of at least 1"),
        ([1 << 20, 1 << 20], lambda of: of.shape("x"), "must be a list of dimensions"),
        ([], lambda of: of.object("x"), r"must be an object, got \[\]"),
        ({}, lambda of: of.objects("x"), r"must be a list of objects, got {}"),
        ([1], lambda of: of.objects("x"), r"must be a list of objects, got \[1\]"),
        (0, lambda of: of.text("y"), "y: must be there, got nothing"),
    ],
)
def test_wrong_values(value: object, read: Callable[[Reading], Any], sentence: str) -> None:
    with pytest.raises(
        ArtifactError,
        match=f"m.json: .: *{sentence}" if "y:" not in sentence else f"m.json: {sentence}",
    ):
        read(reading(x=value))


def test_the_place_is_named() -> None:
    (row,) = reading(rows=[{"a": {"b": 1}}]).objects("rows")
    with pytest.raises(ArtifactError, match=r"m.json: rows\[0\].a.b: must be a string, got 1; dep"):
        row.object("a").text("b")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"{", "must be JSON, got Expecting property name"),
        (b"[]", "must be a JSON object, got list"),
        (b"\xff{}", "must be JSON, got 'utf-8' codec"),
        (b'{"x": NaN}', "must be JSON, got NaN is no JSON"),
        (b"[" * 100_000, "must be JSON, got 100000 levels of brackets"),
    ],
)
def test_other_files(data: bytes, sentence: str) -> None:
    with pytest.raises(ArtifactError, match=f"m.json: {sentence}.*; deploy again"):
        Reading.of_bytes(data, "m.json")
