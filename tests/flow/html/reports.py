"""A small report with each kind of thing that the page shows."""

from __future__ import annotations

from typing import Any

from vta_config.hardware import VTAConfig

#: A name that would run if it were not escaped.
HOSTILE = "<script>alert(1)</script>"


def layer(name: str, cycles: int, floor: int, bound: str) -> dict[str, Any]:
    path = dict.fromkeys(("gemm", "alu", "load", "store", "fetch", "sync"), 0)
    path[bound], path["sync"] = cycles - 10, 10
    return {
        "name": name,
        "cycles": cycles,
        "gemm_utilization": 0.5,
        "bound": bound,
        "bytes": 4096,
        "floor_cycles": floor,
        "full_floor_cycles": floor + 50,
        "above_floor": cycles / floor - 1,
        "above_full_floor": cycles / (floor + 50) - 1,
        "path": path,
    }


def latency() -> dict[str, Any]:
    layers = [
        layer("conv1", 1000, 600, "gemm"),
        layer(HOSTILE, 700, 800, "load"),
        layer("fc", 100, 50, "alu"),
    ]
    return {
        "partial": True,
        "engine": "tsim",
        "timing_profile": "chisel",
        "cycles": 1800,
        "ms": 0.018,
        "floor_cycles": 1450,
        "full_floor_cycles": 1600,
        "above_floor": 0.241379,
        "above_full_floor": 0.125,
        "layers": layers,
    }


def counted(name: str, steps: int, kind: str = "conv2d") -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "insns": 20,
        "gemm_ops": steps + 8,
        "gemm_conv_ops": steps,
        "gemm_bias_ops": 8,
        "gemm_residual_ops": 0,
        "gemm_pool_ops": 0,
        "alu_ops": 30,
        "inp_bytes": 1024,
        "wgt_bytes": 2304,
        "acc_bytes": 0,
        "uop_bytes": 64,
        "out_bytes": 512,
    }


def placement() -> dict[str, Any]:
    odd = {"operator": "nn.conv2d", "reason": "groups must be 1, got 2", "node_type": "Conv"}
    return {
        "programs": 2,
        "crossing_bytes": 4096,
        "macs": 2_000_000,
        "vta_macs": 1_500_000,
        "fallbacks": [
            odd | {"name": "odd", "node": HOSTILE},
            odd | {"name": "odder", "node": ""},
            {
                "name": "conv1",
                "operator": "dequantize",
                "reason": "an operator on the host needs floats",
                "node": "",
                "node_type": "",
            },
        ],
        "before": [],
        "behind": [odd | {"name": "softmax", "node": "s", "node_type": "Softmax", "reason": "x"}],
        "vta_mac_share": 0.75,
    }


def variant(name: str, top1: float, sqnr: float | None, ms: float) -> dict[str, Any]:
    own = name == "float32"
    return {
        "name": name,
        "images": 40,
        "top1": top1,
        "top5": 1.0,
        "top1_change_margin": None if own else 0.0321,
        "agreement": 1.0 if own else 0.975,
        "sqnr_db": sqnr,
        "centred_sqnr_db": sqnr,
        "outputs": [],
        "latency": None if own else latency() | {"ms": ms},
        "placement": None if own else placement(),
        "steps": None,
        "requantization_error": None if own else 0.0,
        "exact": None if own else {"images": 4, "tensors": 30, "mismatches": 0, "first": ""},
        "calibration": None,
        "bits": None,
        "kept": None,
        "layer_images": 0 if own else 2,
        "layers": []
        if own
        else [
            layer_facts("conv1", "conv1.relu", 40.0),
            layer_facts(HOSTILE, HOSTILE, 25.0),
            layer_facts("add", "add", 24.75),
            layer_facts("fc", "fc", 300.0),
            layer_facts("odd", "odd", None),
        ],
    }


def node(name: str, operator: str, inputs: list[str], output: str, host: bool) -> dict[str, Any]:
    place, program = ("host", "") if host else ("vta", "vta_0")
    names = {"name": name, "operator": operator, "place": place, "program": program}
    return names | {"inputs": inputs, "output": output}


def tensor(name: str, dtype: str = "int8", **values: Any) -> dict[str, Any]:
    bits = 8 if dtype == "int8" else 32
    whole = {"name": name, "shape": [1, 8, 4, 4], "dtype": dtype, "bits": bits}
    return whole | {"scale": [0.25] if bits == 8 else [], "zero_point": 0} | values


def histogram(name: str, low: float, high: float, counts: list[int]) -> dict[str, Any]:
    grid = {"bits": 4, "scale": [0.25], "zero_point": 0, "qmin": -7, "qmax": 7}
    return {"name": name, "low": low, "high": high, "counts": counts} | grid


#: One pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="


def worst(name: str, answer: int, png: str = PNG) -> dict[str, Any]:
    told = {"name": name, "label": 3, "float_class": 3, "integer_class": answer}
    return told | {"sqnr_db": 12.5, "png": png}


def details() -> dict[str, Any]:
    regions = [("data.q", "input", 0, 1024, -1, 0), (HOSTILE, "activation", 1024, 512, 0, 1)]
    regions += [("conv2", "activation", 0, 512, 1, 2), ("fc", "output", 512, 64, 2, 3)]
    keys = ("name", "kind", "address", "size_bytes", "first", "last")
    return {
        "graph": {
            "nodes": [
                node("data", "input", [], "data", True),
                node("data.q", "quantize", ["data"], "data.q", True),
                node("conv1", "conv2d", ["data.q"], "conv1.relu", False),
                node(HOSTILE, "conv2d", ["conv1.relu"], HOSTILE, False),
                node("add", "add", [HOSTILE, "conv1.relu"], "add", False),
                node("fc", "dense", ["add"], "fc", False),
                node("odd", "nn.conv2d", ["fc"], "odd", True),
            ],
            "tensors": [
                tensor("data", "float32"),
                tensor("data.q", zero_point=-128),
                tensor("conv1.relu", scale=[0.125, 0.3]),
                tensor(HOSTILE),
                tensor("add"),
                tensor("fc", "int32"),
                tensor("odd", "float32"),
            ],
            "outputs": ["odd"],
        },
        "memory": [
            {
                "symbol": "vta_0",
                "layers": ["conv1", HOSTILE, "fc"],
                "total_bytes": 8192,
                "activation_bytes": 1536,
                "constant_bytes": 6656,
                "insn_bytes": 320,
                "regions": [dict(zip(keys, region, strict=True)) for region in regions],
                "scratchpads": [
                    {"name": "inp", "capacity_bytes": 32768, "layer_bytes": [8192, 16384, 64]},
                    {"name": "wgt", "capacity_bytes": 262144, "layer_bytes": [2304, 2304, 512]},
                ],
            }
        ],
        "histograms": {
            "activations": [histogram("data", -2.5, 2.5, [3, 0, 100, 1000, 100])],
            "weights": [
                histogram(HOSTILE, -7.5, 7.5, [1, 0, 2, 3, 4, 5, 6, 70, 6, 5, 4, 3, 2, 1, 1])
            ],
        },
        "worst_images": {
            "images": [worst("a/cat.png", 5), worst(HOSTILE, 3), worst("c", 3, '"><script>')],
            "differing": 1,
            "evaluated": 40,
        },
        "left_out": {},
    }


def layer_facts(name: str, tensor: str, db: float | None) -> dict[str, Any]:
    return {
        "name": name, "kind": "conv2d", "tensor": tensor, "sqnr_db": db, "centred_sqnr_db": db,
        "weight_bits": 8, "activation_bits": 8, "scale": 0.25, "zero_point": 0, "cycles": 100,
        "macs": 1000, "weight_bytes": 64,
    }  # fmt: skip


def small_report() -> dict[str, Any]:
    """Return a new report: three layers, four variants, an operator of each fate."""
    return {
        "schema_version": 4,
        "model": {"name": f"net {HOSTILE}", "sha256": "ab" * 32},
        "machine": VTAConfig.load("default").to_json(),
        "engine": "fsim",
        "seeds": {"images": 3},
        "evaluation": {"name": "photos", "images": 40},
        "calibration": {"name": "more photos", "images": 10},
        "variants": [
            variant("float32", 0.95, None, 0.0),
            variant("profiled", 0.9, 20.5, 0.02),
            variant("per_tensor", 0.925, 25.25, 0.019),
            variant("best", 0.95, 30.0, 0.018),
        ],
        "skipped": [{"variant": "w4a8", "reason": "conv1: must be something else"}],
        "stopped": None,
        "deployed": "best",
        "latency": latency(),
        "exact": {"images": 4, "tensors": 30, "mismatches": 0, "first": ""},
        "counters": {
            "total": counted("total", 700),
            "layers": [
                counted("setup", 0, "setup"),
                counted("conv1", 500),
                counted(HOSTILE, 180),
                counted("fc", 20, "dense"),
            ],
        },
        "seconds": {"import": 1.5, "compile": 2.25},
        "placement": placement(),
        "plan": None,
        "tool": {"name": "vta-flow", "version": "0.1.0", "numpy": "2.1"},
        "date": "2030-01-02T03:04:05Z",
        "command": ["vta-flow", "deploy", "--model", "my net.onnx"],
        "options": {"model": "my net.onnx", "limit": None},
        "objective": "balanced",
        "details": details(),
    }
