"""The templates of the pages and what all of them have: escaping, style, the head.

Not for: what a page has (`page`, `classifier_page`, `report.classifiers.side_by_side_page`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from resdet.errors import RunError
from resdet.printable import printable
from resdet.report.render import charts


def html_of(
    template: str, *, styles: Sequence[str], filters: Mapping[str, Any] | None = None, **values: Any
) -> str:
    """A page with everything inside; all text is escaped but what the filter `markup` lets through.

    Args:
        template: its file name.
        styles: its style sheets, behind that of the charts.
        filters: of Jinja2, by name.
        values: what the template has, by name.

    Raises:
        RunError: Jinja2 is not installed.
    """
    try:
        import jinja2
        from markupsafe import Markup
    except ModuleNotFoundError:
        raise RunError("The page needs Jinja2. Run: pip install 'resdet[report]'.") from None
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text_of),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else printable(str(value)),
    )
    environment.filters.update({"markup": Markup, **(filters or {})})
    css = "".join([charts.chart_css(), *map(_text_of, styles)])
    return environment.get_template(template).render(css=css, **values)


def _text_of(name: str) -> str:
    return (resources.files("resdet.report.render") / "templates" / name).read_text("utf-8")
