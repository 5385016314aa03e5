"""What runs where, in lines and as JSON."""

from __future__ import annotations

from flow.results.placement import Placement, around_lines, listed, only_ends, placement_lines
from relay_passes.partition.host_work import Fallback, HostWork


def fallback(name: str, operator: str, reason: str = "why") -> Fallback:
    return Fallback(name=name, operator=operator, reason=reason)


def test_preprocessing_and_post_processing_have_lines_of_their_own() -> None:
    plain = Placement(programs=1, crossing_bytes=10, macs=4, vta_macs=4)
    assert around_lines(plain) == []
    assert only_ends(plain) == "only quantizing the input and dequantizing the outputs"
    around = Placement(
        programs=1,
        crossing_bytes=10,
        macs=4,
        vta_macs=4,
        before=(fallback("a", "multiply"), fallback("b", "add")),
        behind=(fallback("c", "nn.softmax"),),
    )
    assert placement_lines(around)[1:] == [
        "on host    preprocessing, before VTA: a (multiply), b (add)",
        "on host    post-processing, behind VTA: c (nn.softmax)",
        "on host    otherwise only quantizing the input and dequantizing the outputs",
    ]
    values = around.to_json()
    assert [f["name"] for f in values["before"]] == ["a", "b"]
    assert values["fallbacks"] == [] and values["behind"][0]["operator"] == "nn.softmax"


def test_what_the_host_does_is_taken_over_and_grouped_by_reason() -> None:
    found = (fallback("a", "split", "moves"), fallback("b", "exp"), fallback("c", "split", "moves"))
    host = HostWork(
        fallbacks=found,
        vta_macs=1_500_000,
        macs=2_000_000,
        before=(fallback("d", "add"),),
        behind=(fallback("e", "nn.softmax"),),
    )
    placement = Placement.of(host, programs=2, crossing_bytes=10)
    assert (placement.programs, placement.crossing_bytes) == (2, 10)
    assert (placement.before, placement.behind) == (host.before, host.behind)
    assert placement.by_reason() == {"moves": [found[0], found[2]], "why": [found[1]]}
    assert placement.macs_text == "75.00% of 2.00 M"
    assert Placement(programs=0, crossing_bytes=0, macs=0, vta_macs=0).macs_text == "none of 0.00 M"


def test_few_names_are_listed() -> None:
    names = [str(i) for i in range(10)]
    assert listed(names[:9]) == ", ".join(names[:9])
    assert listed(names) == ", ".join(names[:8]) + " and 2 more"
