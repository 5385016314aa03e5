"""vta_config.origin: fields, and their text for people."""

from __future__ import annotations

import pytest

from vta_config.origin import NOWHERE, Origin, Purpose


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        (NOWHERE, ""),
        (Origin(purpose=Purpose.FINISH), "finish"),
        (Origin(layer="fc", purpose=Purpose.UOPS), "fc uops"),
        (Origin(layer="a", tile=(0, 3, 14), purpose=Purpose.BIAS), "a tile (0, 3, 14) bias"),
        (Origin(layer="", tile=(0, 0, 0)), " tile (0, 0, 0)"),
        (Origin(layer="\x1b[1m\n", purpose="line 3"), "\\x1b[1m\\n line 3"),
    ],
)
def test_texts(origin: Origin, text: str) -> None:
    assert str(origin) == f"{origin}" == text


def test_another_purpose_keeps_the_place() -> None:
    place = Origin(layer="a tile (1, 2, 3) bias", tile=(0, 0, 0))
    assert place.to(Purpose.WAIT) == Origin(
        layer="a tile (1, 2, 3) bias", tile=(0, 0, 0), purpose="wait"
    )
    assert len(str(Origin(layer="x" * 10_000))) == 80


@pytest.mark.parametrize("purpose", list(Purpose))
def test_purposes_are_words(purpose: Purpose) -> None:
    assert str(purpose) == purpose == purpose.value and hash(purpose) == hash(purpose.value)
