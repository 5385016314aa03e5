"""What the documentation states about numbers and files is compared with the code."""

from __future__ import annotations

import ast
import importlib.util
import math
import re
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.data.downloads import SLOWEST_BYTES_PER_S, TIMEOUT_S
from flow.data.labels import IMAGE_SUFFIXES
from flow.data.models import DIGITS, bundled_data, load_model
from flow.data.pictures import FORMATS, MAX_COSTLY_PIXELS, MAX_PIXELS
from flow.pipeline import Pipeline
from flow.program.asm import disassemble
from relay_passes import numerics
from relay_passes.graph import op_name, read_graph
from relay_passes.integers.hinges import INPUTS, fit_function
from relay_passes.operators.calls import split_bias, weight_rows
from relay_passes.params import scale_text
from relay_passes.partition.read import layers_of
from tests.relay_passes.integers.functions import FUNCTIONS
from vta_config import VTAConfig, preset_names

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
TREES = ("vta_config", "relay_passes", "flow", "scripts", "tests", "docs")
#: Folders that a command makes or a user has.
OUTSIDE = ("models/", "out/deploy")
#: Classes of the original hardware, of TVM or of ONNX.
FOREIGN_NAMES = ("DefaultDe10Config", "DefaultPynqConfig", "DefaultF1Config")


def rows(page: str) -> list[list[str]]:
    """Return the cells of every table row of a page."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:1] == "|"]


def number(text: str) -> Fraction:
    return Fraction(text.replace("−", "-"))


def half_away(x: Fraction) -> int:
    return int(math.copysign(math.floor(abs(x) + Fraction(1, 2)), x))


ROUNDINGS: dict[str, Callable[[Fraction], int]] = {
    "HALF_UP": lambda x: math.floor(x + Fraction(1, 2)),
    "HALF_EVEN": round,
    "HALF_AWAY": half_away,
    "FLOOR": math.floor,
    "TRUNCATE": math.trunc,
}


def test_rounding_table() -> None:
    table = {row[0].split()[0].rstrip(":"): row[1:] for row in rows("numerics.md") if row[0]}
    halves = [number(cell) for cell in table["x"]]
    assert halves == [Fraction(k, 2) for k in (-5, -3, -1, 1, 3, 5)]
    for name, rounding in ROUNDINGS.items():
        assert [number(cell) for cell in table[name]] == [rounding(x) for x in halves], name
    ours = numerics.round_half_up([float(x) for x in halves])
    assert [number(cell) for cell in table["HALF_UP"]] == ours.tolist()


def test_requantize_table() -> None:
    examples = [
        row for row in rows("numerics.md") if row[0].startswith(("rounds", "half,", "clip"))
    ]
    assert len(examples) == 5
    for _, acc, shift, expected in examples:
        q = numerics.requantize(int(number(acc)), int(shift), -127, 127)
        assert int(q) == number(expected), acc


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def without_code(page: Path) -> str:
    """Return the text without indented lines and fenced blocks."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.sub(r"^    .*$", "", text, flags=re.M)


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", without_code(path), re.M)
            assert anchor in map(slug, headings), f"{target}#{anchor}"


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    assert all(f"({p.name})" in index for p in DOCS.glob("*.md") if p.name != "README.md")


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    navigation = site[site.index("\nnav:") : site.index("\nmarkdown_extensions:")]
    listed = re.findall(r"[\w-]+\.(?:md|ipynb)", navigation)
    assert sorted(listed) == sorted(p.name for p in DOCS.iterdir() if p.suffix in (".md", ".ipynb"))


def test_preset_table() -> None:
    table = {row[0]: row[1:] for row in rows("machine.md") if len(row) == 9}
    for name in preset_names():
        config = VTAConfig.load(name)
        kib = [
            f"{1 << getattr(config, f'log_{m}_buff_bytes') >> 10} KiB"
            for m in ("uop", "inp", "wgt", "acc")
        ]
        clock, bus = f"{config.clock_hz / 1e6:.0f} MHz", f"{config.bus_bits} bit"
        bursts = f"{config.burst_beats} beats"
        assert table[name] == [f"{config.batch} × {config.block}", *kib, clock, bus, bursts]


@every_page
def test_files_that_are_named_exist(page: Path) -> None:
    files = [p.relative_to(ROOT).as_posix() for top in TREES for p in (ROOT / top).rglob("*")]
    for name in re.findall(r"`([\w/.-]+(?:\.(?:py|cc|h|md)|/))`", page.read_text(encoding="utf-8")):
        own = any(f"/{file}".endswith(f"/{name.rstrip('/')}") for file in files)
        assert own or (ROOT / name).exists() or name in OUTSIDE, name


@every_page
def test_modules_and_scripts_that_are_run_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert module == "pip" or importlib.util.find_spec(module), module
    for script in re.findall(r"scripts/\w+\.py", text):
        assert (ROOT / script).is_file(), script


@every_page
def test_python_names_that_are_written_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:vta_config|relay_passes|flow)(?:\.\w+)+)", text):
        assert name == "vta_config.json" or resolves(name), name
    if page.name != "report.md":  # whose names are fields of JSON
        for stem, attribute in re.findall(r"`([a-z]\w*)\.([a-z]\w*)(?:\(.*?\))?`", text):
            modules = [p for top in TREES[:4] for p in (ROOT / top).rglob(f"{stem}.py")]
            is_file = attribute in ("csv", "json", "html", "py", "svg", "txt")
            texts = [] if is_file else [p.read_text(encoding="utf-8") for p in modules]
            assert not texts or any(attribute in t for t in texts), f"{stem}.{attribute}"
    classes = classes_of_the_project()
    for name, attribute in re.findall(r"`([A-Z][a-z]\w*)(?:\.(\w+))?(?:\(.*?\)|\[.*?\])?`", text):
        if name in FOREIGN_NAMES:
            continue
        assert name in classes, name
        assert not attribute or attribute in classes[name], f"{name}.{attribute}"


@every_page
def test_options_that_are_named_exist(page: Path) -> None:
    sources = [p for top in TREES for p in (ROOT / top).rglob("*") if p.suffix in (".py", ".cc")]
    known = {o for p in sources for o in re.findall(r"--[a-z][a-z-]+", p.read_text("utf-8"))}
    wanted = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
    assert wanted <= known | {"--build", "--nworkers"}, wanted - known  # of others


def resolves(name: str) -> bool:
    """Tell whether a dotted name is a module, or an attribute of one."""
    module, _, attribute = name.rpartition(".")
    try:
        if importlib.util.find_spec(name) is not None:
            return True
    except ModuleNotFoundError:
        pass
    return hasattr(importlib.import_module(module), attribute)


@cache
def classes_of_the_project() -> dict[str, set[str]]:
    """Return the classes in the packages, and the names of their fields and methods."""
    found: dict[str, set[str]] = {}
    for path in (p for top in TREES[:3] for p in (ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef):
                continue
            names = found.setdefault(node.name, set())
            for inner in ast.walk(node):
                if isinstance(inner, ast.FunctionDef):
                    names.add(inner.name)
                elif isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                    names.add(inner.target.id)
                elif isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                    names.add(inner.attr)
    return found


def test_limits_of_images_and_downloads() -> None:
    page = (DOCS / "images.md").read_text(encoding="utf-8")
    (suffixes,) = re.findall(r"with the suffix (.*), in upper or lower case", page)
    assert set(re.findall(r"\.\w+", suffixes)) == IMAGE_SUFFIXES
    (kinds,) = re.findall(r"A file may hold (.*) data", page)
    assert {kind.upper() for kind in re.findall(r"\w+", kinds) if kind != "or"} == set(FORMATS)
    assert f"at most {MAX_PIXELS:,} pixels (8192 × 8192)" in page and MAX_PIXELS == 8192 * 8192
    assert f"; {MAX_COSTLY_PIXELS:,}\nif decoding" in page
    assert f"silent for {TIMEOUT_S} s" in page
    assert f"{SLOWEST_BYTES_PER_S // 1000} kB/s" in page


@pytest.mark.slow
def test_one_layer_all_stations() -> None:
    """docs/flow.md follows one layer from its profile to its instructions; so does this."""
    name, source, output = "layer2.0.conv1", "layer1.1.conv2.add.relu", "layer2.0.conv1.relu"
    model = load_model(DIGITS)
    data = bundled_data(model)
    assert data is not None
    pipeline = Pipeline(model, VTAConfig.load("default"))
    pipeline.calibrate(data[1])
    made: dict[str, Any] = {}
    pipeline.walk("profiled_fused", made.__setitem__)
    ranges = {tensor: f"[{low}, {high}]" for tensor, low, high, _ in made["profile"].rows}
    scales = {(tensor, kind): scale for tensor, kind, *_, scale in made["choose-scales"].rows}
    kernel = weight_rows(definition(made["fold"], f"{name}.acc"))
    plan = made["plan"]
    planned = next(layer for layer in plan.layers if layer.name == name)
    (sums,), (shift,) = plan.accumulator_scales(planned), planned.requant.shift
    bias = split_bias(definition(made["fold"], name))
    assert bias is not None
    layer = next(x for x in layers_of(made["requantize"], pipeline.config) if x.name == name)
    bias_units = int(numerics.round_half_up(bias[1][0] / sums))
    constant = bias_units + (1 << shift - 1)
    assert layer.post_ops[0].value[0] == constant
    post_ops = ", ".join(
        f"{op.op} int32[{len(op.value)}]" if np.ndim(op.value) else f"{op.op} {op.value}"
        for op in layer.post_ops
    )
    text = disassemble(made["compile"][0].insns, pipeline.config)
    first = text.partition(f"; {name} tile (0, 0, 0) requantize\n")[2].partition("\n;")[0]
    alu = [re.sub(r"ALU\.(\w+) .*(imm=\d+) ;.*", r"\1 \2", x) for x in first.splitlines()]
    expected = [
        f"`{name}.acc`, `{name}`, `{output}`",
        ranges[source],
        ranges[output],
        f"s_x = {scales[source, 'tensor']}",
        f"s_y = {scales[output, 'tensor']}",
        f"s_w = {scales[f'{name}.acc', 'weight']}",
        scale_text(sums),
        str(shift),
        f"{pairs_of(made['quantize'], name)} pairs",
        f"{pairs_of(made['fuse'], name)} pair",
        f"{bias_units} + {1 << shift - 1} = {constant}",
        post_ops,
        ", ".join(alu),
    ]
    table = [row for row in rows("flow.md") if len(row) == 4][2:]
    assert [row[3] for row in table] == expected
    assert f"the largest weight {np.abs(kernel).max():.5f} " in f"{table[5][0]} "
    example = re.search(r"^    (ALU\.SHR .*)$", (DOCS / "program.md").read_text("utf-8"), re.M)
    assert example is not None and example[1] in first


def definition(mod: Any, name: str) -> Any:
    return next(b.value for b in read_graph(mod).bindings if b.var.name == name)


def pairs_of(mod: Any, layer: str) -> int:
    """Count the quantize operators of a layer's tensors."""
    made = (b for b in read_graph(mod).bindings if op_name(b.value) == "quantize")
    return sum(b.var.name in (f"{layer}.q", f"{layer}.relu.q") for b in made)


def test_functions_table() -> None:
    """Cycles and errors of functions, as they are found today."""
    titles = {
        "LeakyReLU, 0.1": "leaky relu",
        "Clip to [−1, 1]": "clip",
        "HardSigmoid": "hard sigmoid",
        "HardSwish": "hard swish",
        "SiLU": "silu",
        **{name: name.lower() for name in ("Sigmoid", "Tanh", "ELU", "GELU")},
    }
    table = [row for row in rows("numerics.md") if row[0] in titles and row[1].startswith("±")]
    assert len(table) == 2 * len(titles)
    for title, reach, lines, cycles, error in table:
        values = FUNCTIONS[titles[title]](INPUTS * int(reach[1:]) / 127)
        full = (-128, 127) if values.min() >= 0 else (-127, 127)
        span, zero = (255, -128) if values.min() >= 0 else (127, 0)
        found = fit_function(values / np.abs(values).max() * span + zero, full)
        assert found is not None
        steps = [s for part in found.plan.parts for s in part.steps]
        added = sum(s.op == "add_scaled" and s.tensor == "" for s in steps)
        assert (added, found.cycles) == (int(lines), int(cycles)), title
        assert f"{found.error**0.5:.2f}" == error, title
