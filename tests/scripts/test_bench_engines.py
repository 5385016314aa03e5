"""Times are compared in turns; the processor is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scripts import bench_engines


def test_the_processor_is_named(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nmodel name\t: Abacus 9000 @ 3 Hz\n")
    assert bench_engines.processor(file) == "Abacus 9000 @ 3 Hz"
    assert bench_engines.processor(tmp_path / "none")


def test_networks_run_in_turns_and_the_least_time_counts() -> None:
    calls: list[str] = []
    networks = {"a": lambda image: calls.append("a"), "b": lambda image: calls.append("b")}
    ms = bench_engines.least_cpu_ms(networks, [np.zeros(1, np.float32)] * 12)
    assert calls == [*"a" * 10, *"b" * 10, *"a" * 2, *"b" * 2]
    assert set(ms) == {"a", "b"} and all(0 <= value < 1000 for value in ms.values())
