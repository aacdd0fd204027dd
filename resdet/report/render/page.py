"""A gathered report as one HTML page with everything inside.

Everything that users named (classes, paths, data sets) goes through jinja2's escaping; only
drawings of our own are inserted as they are.

Not for: gathering (`document`), Markdown or the terminal (`plain_text`).
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from resdet.errors import RunError
from resdet.printable import printable
from resdet.report.comparison import backbone_gains
from resdet.report.comparison.contrasts import rule
from resdet.report.model import ComparisonReport
from resdet.report.provenance import provenance
from resdet.report.render import charts, report_json
from resdet.report.render.pictures import PICTURES_CAPTION


def to_html(report: ComparisonReport) -> str:
    """One page with everything inside.

    Raises:
        RunError: Jinja2 is not installed.
    """
    try:
        import jinja2
        from markupsafe import Markup
    except ModuleNotFoundError:
        raise RunError("The report needs Jinja2. Run: pip install 'resdet[report]'.") from None
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        # What is marked as markup is ours.
        finalize=lambda value: value if isinstance(value, Markup) else printable(str(value)),
    )
    environment.filters.update(
        percent=backbone_gains.percent,
        points=backbone_gains.points,
        duration=backbone_gains.duration,
        svg=Markup,
    )
    return environment.get_template("report.html").render(
        report=report,
        css=Markup(charts.chart_css() + _template("report.css")),
        data=Markup(_script_json(report_json.to_json(report))),
        pictures_caption=PICTURES_CAPTION,
        rule=rule,
        # A config key may be broken after a dot, and copied without a trace of that.
        breakable_dot=Markup(".<wbr>"),
        provenance=[provenance(c) for c in report.columns],
    )


def _template(name: str) -> str:
    return (resources.files("resdet.report.render") / "templates" / name).read_text("utf-8")


def _script_json(value: Any) -> str:
    """JSON that cannot end its <script> element early."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
