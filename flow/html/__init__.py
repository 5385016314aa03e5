"""The report as a page: ``report.html``, made from ``report.json`` alone."""
