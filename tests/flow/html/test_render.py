"""flow.html.render: text is escaped, and a value that is missing is an error."""

from __future__ import annotations

import jinja2
import pytest

from flow.html.render import render


def test_text_is_escaped_and_nothing_may_lack() -> None:
    text = render("diff.html.j2", title="<b>&", headline=[], sections=[])
    assert "<title>&lt;b&gt;&amp;</title>" in text
    with pytest.raises(jinja2.UndefinedError, match="'headline' is undefined"):
        render("diff.html.j2", title="t", sections=[])
