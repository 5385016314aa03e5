"""The details of a report: whether a part is there, and if not, why."""

from __future__ import annotations

from flow.html.values import Missing, Values


def of_details(report: Values, name: str) -> Values:
    """Return the details, where they hold a part.

    Raises
    ------
    Missing
        When they do not; with the error that kept the part from being collected, if there was one.
    """
    details = report.part("details")
    if details.data.get(name) is None:
        left_out = details.maybe_part("left_out")
        why = None if left_out is None else left_out.maybe_text(name)
        raise Missing(f"details.{name}" + (f" ({why})" if why else ""))
    return details
