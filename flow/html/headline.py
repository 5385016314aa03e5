"""The headline numbers: how good, how fast, where it runs, whether it is exact."""

from __future__ import annotations

from flow.html import texts
from flow.html.parts import Alert, Part, Tile, Tiles
from flow.html.values import Missing, Values


def parts(report: Values) -> list[Part]:
    """Return what the page begins with.

    Raises
    ------
    Missing
        When the report says nothing of the deployed variant.
    """
    variants = report.parts("variants")
    deployed = report.text("deployed")
    float32 = next((v for v in variants if v.text("name") == "float32"), None)
    own = next((v for v in variants if v.text("name") == deployed), None)
    if own is None:
        raise Missing(f"variants: {deployed}")
    tiles = [
        *_accuracy(own, float32),
        *_latency(report),
        *_placement(report.maybe_part("placement")),
        _exactness(report.maybe_part("exact")),
    ]
    alerts: list[Part] = []
    if stopped := report.maybe_text("stopped"):
        alerts.append(Alert(f"Not all variants were measured: {stopped}."))
    return [*alerts, Tiles(tiles)]


def _accuracy(own: Values, float32: Values | None) -> list[Tile]:
    tiles = []
    top1 = own.maybe_number("top1")
    reference = None if float32 is None else float32.maybe_number("top1")
    images = texts.plural(own.number("images"), "image")
    if top1 is not None:
        difference = texts.points(top1, reference)
        note = f"float32: {texts.percent(reference)} % ({difference} points); {images}"
        tiles.append(Tile(name="Top-1 accuracy", value=f"{texts.percent(top1)} %", note=note))
    agreement = own.maybe_number("agreement")
    if agreement is not None:
        share = f"{texts.percent(agreement)} %"
        note = f"same class as float32; {images}"
        tiles.append(Tile(name="Agreement", value=share, note=note))
    sqnr = own.maybe_number("sqnr_db")
    centred = own.maybe_number("centred_sqnr_db")
    value = "exact" if sqnr is None else texts.decibels(sqnr)
    note = "signal to quantization noise of the outputs, against float32"
    if centred is not None:
        note += f"; centred: {texts.decibels(centred)}"
    tiles.append(Tile(name="SQNR", value=value, note=note))
    return tiles


def _latency(report: Values) -> list[Tile]:
    latency = report.maybe_part("latency")
    if latency is None:
        return [Tile(name="Latency", value=texts.NONE, note="nothing runs on VTA")]
    ms = latency.number("ms")
    note = f"{texts.count(latency.number('cycles'))} cycles"
    if ms > 0:
        rate = 1000 / ms
        note += f", {rate:,.0f} images per second" if rate >= 10 else f", {rate:.2g} images/s"
    if latency.flag("partial"):
        note += "; without the operators on the host"
    return [Tile(name="Latency per image", value=f"{texts.milliseconds(ms)} ms", note=note)]


def _placement(placement: Values | None) -> list[Tile]:
    if placement is None:
        return []
    share = placement.maybe_number("vta_mac_share")
    fallbacks = placement.parts("fallbacks")
    note = "of the multiply-accumulates; "
    note += (
        f"{texts.plural(len(fallbacks), 'operator')} on the host" if fallbacks else "no fallbacks"
    )
    value = texts.NONE if share is None else f"{texts.percent(share)} %"
    return [Tile(name="On VTA", value=value, note=note)]


def _exactness(exact: Values | None) -> Tile:
    if exact is None:
        return Tile(name="Engines", value="not compared", note="--exact-images 0")
    tensors, images = exact.number("tensors"), exact.number("images")
    compared = f"{texts.plural(tensors, 'tensor')} of {texts.plural(images, 'image')}"
    wrong = exact.number("mismatches")
    if wrong:
        note = f"of {compared}; first: {exact.text('first')}"
        return Tile(name="Engines", value=f"{wrong:,.0f} differ", note=note, state="bad")
    note = f"host, oracle and simulators: {compared}, bit for bit"
    return Tile(name="Engines", value="all equal", note=note, state="good")
