"""flow.diff.read: files, folders and variants; what is no report is told in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flow.diff.read import read_side
from tests.flow.diff.reports import edited, report, save
from vta_config.errors import ArtifactError, ConfigError


def test_file_folder_and_variant(tmp_path: Path) -> None:
    folder = save(report(), tmp_path / "a:b")  # a colon in a name is no variant
    for text in (str(folder), str(folder / "report.json")):
        side = read_side(text)
        assert [*side.variants] == ["float32", "profiled", "best"] and side.chosen == ""
        assert side.label == text and side.path == folder / "report.json"
    for text in (f"{folder}:best", f"{folder}/report.json:best"):
        assert read_side(text).chosen == "best"
    numbers = read_side(str(folder)).variants["best"]
    assert numbers.values["cycles"] == 1234 and numbers.layers["conv1"]["layer_sqnr"] == 20.0
    assert numbers.host == {"odd": "groups must be 1, got 2"}


def test_a_variant_that_is_not_there(tmp_path: Path) -> None:
    folder = save(report(), tmp_path)
    sentence = "must name a variant that the report has: float32, profiled, best, got w4a8; choose"
    with pytest.raises(ConfigError, match=sentence):
        read_side(f"{folder}:w4a8")


def test_reports_of_version_3_can_be_read(tmp_path: Path) -> None:
    old = edited(lambda r: r.update(schema_version=3, seed=0))
    for key in ("tool", "date", "command", "options", "seeds", "objective", "details"):
        del old[key]
    for variant in old["variants"]:
        del variant["layers"], variant["layer_images"]
    assert read_side(str(save(old, tmp_path))).variants["best"].layers == {
        "conv1": {"layer_cycles": 1234.0}
    }


@pytest.mark.parametrize("version", [2, 5, "4", None])
def test_other_versions_are_refused(version: object, tmp_path: Path) -> None:
    folder = save(edited(lambda r: r.update(schema_version=version)), tmp_path)
    sentence = "must be a report of vta-flow, got something else; give report.json of"
    if version is not None:
        sentence = f"must have schema_version 3 to 4, got {version}; make the report again with"
    with pytest.raises(ArtifactError, match=sentence):
        read_side(str(folder))


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "3", "null", '{"schema_version": 4}', "\xff" * 9, "[" * 100_000,
        '{"schema_version": 4, "variants": 3}', '{"schema_version": 4, "variants": [3]}',
        '{"schema_version": 4, "variants": [{}]}',
        '{"schema_version": 4, "variants": [{"name": "x", "top1": "high"}]}',
        '{"schema_version": 4, "variants": [{"name": "x", "latency": [1]}]}',
        '{"schema_version": 4, "variants": [{"name": "x", "top1": NaN}]}',
        '{"schema_version": 4, "variants": [{"name": "x", "layers": [{}]}]}',
    ],
)  # fmt: skip
def test_other_files_are_no_reports(text: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError, match="report.json: must be a report of vta-flow, got "):
        read_side(str(tmp_path))


def test_files_that_are_missing_or_no_files(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ArtifactError, match="must be a report that can be read, got No such f"):
            read_side(str(path))
    (tmp_path / "report.json").mkdir()
    with pytest.raises(ArtifactError, match="must be a report that can be read, got a folder; gi"):
        read_side(str(tmp_path))


def test_the_report_is_kept_as_it_is(tmp_path: Path) -> None:
    side = read_side(str(save(report(), tmp_path)))
    assert side.report == json.loads((tmp_path / "report.json").read_text())
