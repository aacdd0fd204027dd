"""A gathered report as one HTML page with everything inside.

Everything that users named (classes, paths, data sets) goes through jinja2's escaping; only
drawings of our own are inserted as they are.

Not for: gathering (`document`), Markdown or the terminal (`plain_text`).
"""

from __future__ import annotations

import json
from typing import Any

from resdet.report.comparison import backbone_gains
from resdet.report.comparison.contrasts import rule
from resdet.report.model import ComparisonReport
from resdet.report.provenance import provenance
from resdet.report.render import report_json
from resdet.report.render.html_template import html_of
from resdet.report.render.pictures import PICTURES_CAPTION


def to_html(report: ComparisonReport) -> str:
    """One page with everything inside.

    Raises:
        RunError: Jinja2 is not installed.
    """
    return html_of(
        "report.html",
        styles=("report.css",),
        filters={
            "percent": backbone_gains.percent,
            "points": backbone_gains.points,
            "duration": backbone_gains.duration,
        },
        report=report,
        data=_script_json(report_json.to_json(report)),
        pictures_caption=PICTURES_CAPTION,
        rule=rule,
        provenance=[provenance(c) for c in report.columns],
    )


def _script_json(value: Any) -> str:
    """JSON that cannot end its <script> element early."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
