"""Networks are tried one by one, and what became of each is one row of a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import try_networks
from scripts.try_networks import Row
from tests.flow.onnx_models import save, tiny_model

ROWS = (
    Row(
        network="a",
        result=try_networks.PARTLY,
        db={"best": 30.25, "profiled_fused": None},
        cycles={"best": 12345},
        layers=3,
        programs=2,
        host={"why|not": 2},
        vta_share=0.5,
        seconds=1.6,
    ),
    Row(network="b", result=try_networks.TRACEBACK, detail="x" * 300),
)


def test_table_has_a_row_for_each_network() -> None:
    head, rule, *rows = try_networks.table(ROWS, ["profiled_fused", "best"]).splitlines()
    assert head.count("|") == rule.count("|") == 12
    assert rows[0] == (
        "| a | partly | exact | 30.2 | – | 12,345 | 3 | 50.0 | 2 | 2 × why\\|not | 2 |"
    )
    assert rows[1].count("x") == 160 and "…" in rows[1]
    assert rows[-1] == "2 networks: 1 partly, 1 TRACEBACK"


def test_networks_of_folders_and_files(tmp_path: Path) -> None:
    for name in ("b.onnx", "a.onnx.xz", "README.md"):
        (tmp_path / name).touch()
    found = try_networks.networks_in([tmp_path, tmp_path / "b.onnx"])
    assert [try_networks.name_of(path) for path in found] == ["a", "b", "b"]


def test_pictures_are_listed_without_their_labels(tmp_path: Path) -> None:
    (tmp_path / "pictures" / "900").mkdir(parents=True)
    (tmp_path / "pictures" / "900" / "a.png").touch()
    (tmp_path / "pictures" / "labels.csv").write_text("filename,label_index\n900/a.png,900\n")
    file = try_networks._listed(tmp_path / "pictures", tmp_path)
    assert file == tmp_path / "pictures.txt"
    assert file.read_text() == f"{tmp_path.resolve()}/pictures/900/a.png\n"
    assert try_networks._listed(None, tmp_path) is None


def test_a_variant_that_deploy_does_not_take(capsys: pytest.CaptureFixture[str]) -> None:
    """Other recipes are parts of variants: `deploy` would not know which one to tell in full."""
    with pytest.raises(SystemExit) as end:
        try_networks.main(["net.onnx", "--variant", "best", "--variant", "fine_residuals"])
    assert end.value.code == 2
    sentence = "argument --variant: invalid choice: 'fine_residuals' (choose from "
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_a_good_and_a_damaged_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tiny_model(), tmp_path / "good.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    file = tmp_path / "rows.json"
    options = ["--variant", "profiled_fused", "--count", "2", "--exact-images", "1"]
    assert try_networks.main([str(tmp_path), *options, "--json", str(file)]) == 0
    bad, good = (Row(**row) for row in json.loads(file.read_text()))
    assert bad.result == try_networks.REFUSED and "truncated or damaged" in bad.detail
    assert (good.result, good.layers, good.programs) == (try_networks.ON_VTA, 2, 1)
    assert good.vta_share == 1.0 and good.cycles["profiled_fused"] > 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 networks: 1 refused, 1 on VTA"


@pytest.mark.slow
def test_a_network_that_takes_too_long(tmp_path: Path) -> None:
    path = save(tiny_model(), tmp_path / "net.onnx")
    row = try_networks.try_in_process(path, ["--variant", "best"], 0.01)
    assert (row.network, row.result) == ("net", try_networks.TIMEOUT)


@pytest.mark.slow
def test_a_shape_that_the_file_leaves_open(tmp_path: Path) -> None:
    path = save(tiny_model(shape=("N", 3, "H", "W")), tmp_path / "net.onnx")
    options = ["--variant", "profiled_fused", "--count", "2", "--exact-images", "0"]
    row = try_networks.try_in_process(path, options, 300)
    assert row.result == try_networks.REFUSED
    row = try_networks.try_in_process(path, [*options, "--input-shape", "net=1,3,12,8"], 300)
    assert row.result == try_networks.ON_VTA
