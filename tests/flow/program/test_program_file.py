"""Program files made by an enemy: each is one sentence."""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.compiler.schedule import Schedule
from flow.program.input_form import InputForm
from flow.program.layouts import unpack_activation
from flow.program.program import VERSIONS, Program
from flow.program.program_file import clipped, read_sections
from flow.system.limits import Limits
from relay_passes.integers.plan import QuantPlan
from relay_passes.params import QuantParams
from relay_passes.partition.layers import TensorSpec
from tests.flow.compiler.networks import conv, subgraph
from vta_config.errors import ArtifactError, CapacityError, FlowError
from vta_config.hardware import VTAConfig

CONFIG = VTAConfig.load("small")
_X = TensorSpec(name="x", shape=(1, 8, 5, 5), dtype="int8")
_GRAPH = subgraph((conv(np.random.default_rng(0), "conv", _X, 8, (3, 3)),), _X)
DATA = make_program(_GRAPH, lower(_GRAPH, CONFIG), CONFIG).to_bytes()
SECTIONS = {tag: bytes(data) for tag, data in read_sections(DATA, VERSIONS, "x").items()}
META: dict[str, Any] = json.loads(SECTIONS["META"])
_FIRST = conv(np.random.default_rng(0), "first", _X, 8, (3, 3))
_SECOND = conv(
    np.random.default_rng(0), "second", _FIRST, 8, (3, 3), padding=(1, 1, 1, 0), pad_value=-5
)
_BOTH = subgraph((_FIRST, _SECOND), _X)
BORDERED = make_program(_BOTH, lower(_BOTH, CONFIG), CONFIG)


def join(sections: dict[str, bytes], rows: list[dict[str, int]] | None = None) -> bytes:
    """Return a file of `sections`; `rows` changes fields of the table."""
    offset = 32 + 32 * len(sections)
    table = body = b""
    for k, (tag, data) in enumerate(sections.items()):
        body += bytes(-(offset + len(body)) % 64)
        row = {"at": offset + len(body), "size": len(data), "crc": zlib.crc32(data), "zero": 0}
        row |= rows[k] if rows else {}
        table += struct.pack("<8sQQII", tag.encode(), *row.values())
        body += data
    head = (b"VTAFLOW1", VERSIONS[0], len(sections), offset + len(body), zlib.crc32(table), 0)
    return struct.pack("<8sIIQII", *head) + table + body


def refuse(sentence: str, data: bytes, kind: type[FlowError] = ArtifactError) -> None:
    with pytest.raises(kind, match=f"^x.vta: {sentence}") as caught:
        Program.from_bytes(data, "x.vta")
    assert len(str(caught.value)) < 1000


def refuse_meta(sentence: str, change: Callable[[dict[str, Any]], object]) -> None:
    meta = json.loads(json.dumps(META))
    change(meta)
    refuse(sentence, join({**SECTIONS, "META": json.dumps(meta).encode()}))


def test_the_writer_here_is_right() -> None:
    assert join(SECTIONS) == DATA
    assert Program.from_bytes(DATA).to_bytes() == DATA


def test_a_plan_comes_along() -> None:
    plan = QuantPlan(tensors={"x": QuantParams(scale=(0.1,))}, weights={}, host={"y": "odd"})
    program = replace(Program.from_bytes(DATA), plan=plan)
    assert Program.from_bytes(program.to_bytes()).plan == plan
    assert Program.from_bytes(DATA).plan is None  # as files before have none
    assert program.insn_bytes == Program.from_bytes(DATA).insn_bytes


def test_what_is_no_plan_is_damage() -> None:
    sentence = "must be a quantization plan, got "
    refuse_meta(sentence + "TypeError", lambda meta: meta.update(plan=7))
    refuse_meta(sentence + "KeyError: 'block'", lambda meta: meta.update(plan={}))
    plan = QuantPlan(tensors={}, weights={}).to_json() | {"tensors": {"x": {"scale": ["9" * 5000]}}}
    refuse_meta(sentence, lambda meta: meta.update(plan=plan))


# ---- sections
def test_container() -> None:
    none: list[dict[str, int]] = [{} for _ in SECTIONS]
    refuse("must have 0 in reserved fields, got 7", DATA[:28] + b"\7" + DATA[29:])
    rows = [*none[:1], {"at": 64}, *none[2:]]  # over the table
    refuse("must hold its section INSNS, got .* bytes at 64", join(SECTIONS, rows))
    first = 32 + 32 * 5
    rows = [*none[:1], {"at": first}, *none[2:]]  # over another section
    refuse("must hold its section INSNS", join(SECTIONS, rows))
    rows = [*none[:1], {"at": first + 65}, *none[2:]]
    refuse("must hold its section INSNS", join(SECTIONS, rows))
    rows = [*none[:4], {"size": 1 << 63}]
    refuse("must hold its section META", join(SECTIONS, rows))
    rows = [{"zero": 1}, *none[1:]]
    refuse("must have 0 in reserved fields, got 1", join(SECTIONS, rows))
    rows = [*none[:4], {"crc": 1}]
    refuse("must have an undamaged section META, got another checksum", join(SECTIONS, rows))
    many = SECTIONS | {f"T{k}": b"" for k in range(60)}
    refuse("must hold its section table, got 65 sections", join(many))
    few = {tag: data for tag, data in SECTIONS.items() if tag != "META"}
    refuse("must have the sections .*, got none named META", join(few))
    twice = join(SECTIONS | {"CONFIH": SECTIONS["CONFIG"]})
    table = twice[32 : 32 + 32 * 6].replace(b"CONFIH", b"CONFIG")
    head = twice[:24] + struct.pack("<I", zlib.crc32(table)) + twice[28:32]
    refuse("must have one section CONFIG, got two", head + table + twice[32 + 32 * 6 :])
    after = DATA[:16] + struct.pack("<Q", len(DATA) + 1) + DATA[24:] + b"x"
    refuse("must end with its last section, got something after it", after)
    gap = DATA.index(SECTIONS["CONSTS"]) - 1
    assert DATA[gap] == 0
    refuse("must have 0 between sections", DATA[:gap] + b"x" + DATA[gap + 1 :])
    assert Program.from_bytes(join(SECTIONS | {"NOTES": b"of another version"})).config == CONFIG


def test_packed_files_say_how_to_unpack() -> None:
    refuse(
        "must be a program file, got a file compressed with xz; decompress it: xz -d",
        b"\xfd7zXZ" + bytes(99),
    )


def test_records() -> None:
    sentence = "must have whole records in CONFIG, INSNS and TENSORS, got parts of one"
    for tag in ("CONFIG", "INSNS", "TENSORS"):
        refuse(sentence, join({**SECTIONS, tag: SECTIONS[tag] + b"x"}))
    refuse("must have 2 tensors, as META, got 1", join({**SECTIONS, "TENSORS": bytes(64)}))
    words = list(struct.unpack("<32I", SECTIONS["TENSORS"]))

    def tensors(sentence: str, **changes: int) -> None:
        changed = list(words)
        for name, value in changes.items():
            changed[int(name[1:])] = value
        refuse(sentence, join({**SECTIONS, "TENSORS": struct.pack("<32I", *changed)}))

    roles = "must have inputs of role 0 and kind 0, then outputs of role 1 and kind 0 or 1, got"
    tensors(roles, w0=1)
    tensors(roles, w1=1)  # int32 inputs
    tensors(roles, w16=0)
    tensors(roles, w17=2)
    dimensions = "must have dimensions of at least 1 that fit the arena in"
    for at in (4, 5, 6, 7, 8, 9, 10, 11, 14, 15):
        for value in (0, (1 << 32) - 1):
            tensors(f"{dimensions} x, got", **{f"w{at}": value})
    tensors(f"{dimensions} x", w12=1 << 31)
    # Few positions, far from each other: a picture of 2^60 pixels.
    tensors(f"{dimensions} x", w10=1 << 30, w11=1 << 30)
    tensors("must have plain outputs, got another form of conv", w28=1)
    tensors("must have x in the arena of .* bytes, got .* bytes at", w2=1 << 30)
    tensors("must have x in the arena", w3=1 << 30)
    config = list(struct.unpack("<16I", SECTIONS["CONFIG"]))
    config[13] = config[12]
    refuse(
        "must have constants in the arena",
        join({**SECTIONS, "CONFIG": struct.pack("<16I", *config)}),
    )
    for at in (0, 4, 9, 10, 11, 14, 15):
        changed = list(config)
        changed[at] ^= 64
        refuse(
            "must have one machine in CONFIG and META, got two",
            join({**SECTIONS, "CONFIG": struct.pack("<16I", *changed)}),
        )


# ---- borders
def sections_with(data: bytes, **changes: bytes) -> bytes:
    """Return a file of version 4 whose sections are those of `data` and some others."""
    sections = {tag: bytes(part) for tag, part in read_sections(data, VERSIONS, "x").items()}
    file = join(sections | changes)
    return file[:8] + struct.pack("<I", 4) + file[12:]


def test_only_files_with_borders_are_version_4() -> None:
    data = BORDERED.to_bytes()
    assert (DATA[8], data[8]) == (3, 4)
    assert "FILLS" not in SECTIONS
    again = Program.from_bytes(data)
    (fill,) = again.fills
    first, second = (record.output for record in again.layers)
    # 5 x 5 pixels less the kernel are 3 x 3; the border adds a row above, one below, one to the
    # left. A block is 16 lanes.
    assert (fill.address, fill.size_bytes, fill.byte) == (first.address, 5 * 4 * 16, 256 - 5)
    assert again.fills == BORDERED.fills and again.layers == BORDERED.layers
    assert first.form == InputForm(
        patch=(1, 1), stride=(1, 1), padding=(1, 1), extent=(5, 4), fill=-5
    )
    assert second.form is None
    assert again.to_bytes() == data == sections_with(data)
    arena = again.new_arena()[fill.address :][: fill.size_bytes]
    assert set(arena.tolist()) == {256 - 5}


def test_inputs_and_outputs_with_borders() -> None:
    """Of an input the host writes the border; of an output it reads what is inside."""
    layer = conv(np.random.default_rng(0), "c", _X, 8, (3, 3), padding=(1, 1, 1, 1), pad_value=-5)
    graph = subgraph((layer, replace(layer, name="d", output="d", inputs=("c",))), _X)
    outputs = (replace(graph.outputs[0], name="c"), *graph.outputs)
    graph = replace(graph, outputs=outputs)
    program = make_program(graph, lower(graph, CONFIG, Schedule(forms={})), CONFIG)
    again = Program.from_bytes(program.to_bytes())
    assert again.to_bytes() == program.to_bytes()
    form = InputForm(patch=(1, 1), stride=(1, 1), padding=(1, 1), extent=(7, 7), fill=-5)
    assert again.inputs[0].form == again.outputs[0].form == form and again.outputs[1].form is None
    assert [(fill.address, fill.size_bytes) for fill in again.fills] == [
        (again.outputs[0].address, 7 * 7 * 16)
    ]
    x = np.random.default_rng(0).integers(-128, 128, _X.shape).astype(np.int8)
    packed = again.inputs[0].pack(x, CONFIG)
    whole = unpack_activation(packed.view(np.int8), (1, 8, 7, 7), CONFIG)
    np.testing.assert_array_equal(whole, np.pad(x, [(0, 0)] * 2 + [(1, 1)] * 2, constant_values=-5))
    np.testing.assert_array_equal(again.outputs[0].unpack(packed, CONFIG), x)


def test_fills_that_are_wrong() -> None:
    data = BORDERED.to_bytes()
    end = BORDERED.arena_bytes

    def fills(sentence: str, *numbers: int) -> None:
        section = struct.pack(f"<{len(numbers)}I", *numbers)
        refuse(sentence, sections_with(data, FILLS=section))

    fills("must have whole records in FILLS, got parts of one", 0, 16)
    fills(r"must have bytes in \[0, 255\] in FILLS, got 256", 0, 16, 256)
    fills("must have fills one behind the other, got 31", 16, 16, 1, 31, 1, 1)
    fills(
        f"must have fills in the arena of {end} bytes, got 17 bytes at {end - 16}", end - 16, 17, 1
    )
    fills("must have fills in the arena", (1 << 32) - 1, (1 << 32) - 1, 1)
    assert Program.from_bytes(sections_with(data, FILLS=b"")).fills == ()


def test_borders_that_are_wrong() -> None:
    data = BORDERED.to_bytes()
    known = json.loads(bytes(read_sections(data, VERSIONS, "x")["META"]))
    assert [layer.get("border") for layer in known["layers"]] == [[1, 1, 1, 0, -5], None]

    def border(sentence: str, value: object) -> None:
        meta = json.loads(json.dumps(known))
        meta["layers"][0]["border"] = value
        refuse(sentence, sections_with(data, META=json.dumps(meta).encode()))

    border("must have a list as border, got int", 7)
    border("must have a border of 4 sizes and a number of first, got 4", [1, 1, 1, 1])
    border(r"must have an integer in \[0, \d+\] as border of the layer first, got -1", [-1] * 5)
    border(r"must have an integer in \[-128, 127\] as border of the layer first", [1, 1, 1, 1, 128])
    border("must have dimensions of at least 1 that fit the arena in first", [1 << 30] * 4 + [0])
    border("must have first in the arena of", [1 << 12] * 4 + [0])
    words = list(struct.unpack("<32I", SECTIONS["TENSORS"]))
    words[1] = 1 << 24  # above the byte of what is outside
    sentence = "must have inputs of role 0 and kind 0, then outputs of role 1 and kind 0 or 1, got"
    refuse(sentence, join({**SECTIONS, "TENSORS": struct.pack("<32I", *words)}))


def test_instructions() -> None:
    bad = SECTIONS["INSNS"][:16] + b"\7" + SECTIONS["INSNS"][17:]
    refuse(
        r"must be a whole program file, got insn.opcode: must be in",
        join({**SECTIONS, "INSNS": bad}),
    )
    many = join({**SECTIONS, "INSNS": bytes(16 << 16)})
    with pytest.raises(
        CapacityError, match="must take at most 1000000 bytes of memory, got 65536 ins"
    ):
        Program.from_bytes(many, limits=Limits(max_bytes=1_000_000))


# ---- META
def test_json() -> None:
    def meta(sentence: str, text: bytes) -> None:
        refuse(sentence, join({**SECTIONS, "META": text}))

    meta("must have a META of JSON, got", b"{")
    meta("must have a META of JSON, got NaN is no JSON", b'{"symbol": NaN}')
    meta("must have a META of JSON, got", b"\xff")
    meta("must have a META of JSON, got", "{}".encode("utf-16"))
    meta("must have a META of JSON, got", b"[" + b"9" * 5000 + b"]")
    meta("must have a META that is a JSON object, got list", b"[]")
    for deep in (b"[" * 33, b'{"a":' * 33, b"[" * 10_000_000, b'{"a":[' * 1_000_000):
        meta("must have a META of at most 32 levels, got more", deep)
    meta("must have config in its META, got none", b'{"a": "' + b"[" * 1000 + b'\\"[[[["}')
    meta("must have a META of at most 16777216 bytes, got 16777217", b" " * ((1 << 24) + 1))
    meta("must have a META of JSON", b'"' + b"[" * 100)  # a string without end


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside META."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(min(len(value), 2)):
            yield from places(value[key], (*path, key))


WRONG = (None, True, -1, 1.5, 1e300, 1 << 70, "", "\ud800", [], {}, [[]], "x" * 100_000)


@pytest.mark.parametrize("path", list(places(META)), ids=str)
def test_every_wrong_value_is_one_sentence(path: tuple[Any, ...]) -> None:
    for wrong in (*WRONG, KeyError):
        meta = json.loads(json.dumps(META))
        owner = meta
        for key in path[:-1]:
            owner = owner[key]
        if wrong is KeyError:
            del owner[path[-1]]
        else:
            owner[path[-1]] = wrong
        data = join({**SECTIONS, "META": json.dumps(meta).encode()})
        try:
            program = Program.from_bytes(data, "x.vta")
        except ArtifactError as error:
            assert str(error).startswith("x.vta") and len(str(error)) < 1200
        else:
            assert Program.from_bytes(program.to_bytes()).to_bytes() == program.to_bytes()


def test_meta_sentences() -> None:
    long, count = "x" * 70_000, len(SECTIONS["INSNS"]) // 16
    layer = META["layers"][0]["name"]

    def refuse_layer(sentence: str, **changes: object) -> None:
        refuse_meta(sentence, lambda m: m["layers"][0].update(changes))

    refuse_meta("must have a string as symbol, got 3", lambda m: m.update(symbol=3))
    refuse_meta("must have a symbol that is UTF-8", lambda m: m.update(symbol="\udc80"))
    sentence = "must have at most 65536 characters in symbol, got 70000"
    refuse_meta(sentence, lambda m: m.update(symbol=long))
    refuse_meta("must have an object as config, got NoneType", lambda m: m.update(config=None))
    refuse_meta("must have a list as layers, got str", lambda m: m.update(layers="conv"))
    refuse_meta("must have config in its META, got none", lambda m: m.pop("config"))
    sentence = "must be a whole program file, got small.BUS_BITS"
    refuse_meta(sentence, lambda m: m["config"].update(BUS_BITS=64.0))
    refuse_layer(f"must have 4 dimensions of the layer {layer}, got 1", shape=[1])
    refuse_layer("must have int8 or int32 as dtype of the layer", dtype="float")
    last = rf"must have an integer in \[0, {count - 1}\] as last_store of the layer {layer}"
    refuse_layer(f"{last}, got {count}", last_store=count)


# ---- files
def test_what_is_no_program_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.vta"
    os.mkfifo(pipe)
    with pytest.raises(ArtifactError, match="must be a readable file of at most .*, got a pipe or"):
        Program.load(pipe)
    with pytest.raises(ArtifactError, match="got a folder"):
        Program.load(tmp_path)
    with pytest.raises(ArtifactError, match="got a pipe or a device"):
        Program.load(Path("/dev/zero"))
    with pytest.raises(ArtifactError, match="embedded null"):
        Program.load(Path("a\0b"))
    sparse = tmp_path / "sparse.vta"
    with sparse.open("wb") as file:
        file.write(DATA)
        file.truncate(1 << 40)
    with pytest.raises(ArtifactError, match="got 1,099,511,627,776 bytes; check the path"):
        Program.load(sparse)
    sparse.write_bytes(DATA)
    with pytest.raises(ArtifactError, match="must be a readable file of at most 500 bytes"):
        Program.load(sparse, limits=Limits(max_bytes=1000))
    assert Program.load(sparse, limits=Limits(max_bytes=-1)).to_bytes() == DATA


def test_long_values_are_cut() -> None:
    assert clipped("short") == "short"
    assert clipped("x" * 300) == "x" * 200 + "… (300 characters)"
    assert clipped("\ud800") == "\\ud800"


def test_many_sections_of_everything_take_no_time() -> None:
    # Sections that all hold the whole file: read one after the other, it would be hours.
    began = time.process_time()
    rows = [{"at": 0, "size": len(DATA)} for _ in range(64)]
    sections = {f"T{k}": b"" for k in range(64)}
    refuse("must hold its section T0", join(sections, rows))
    assert time.process_time() - began < 1
