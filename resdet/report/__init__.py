"""Run folders side by side: are they comparable, who is ahead, by how much, and why.

`compare` reads nothing but run folders, so a report can be made on another machine years later,
without torch and without Detectron2. Every number is in three files with the same content:
report.html (one page, nothing beside it), report.md (with its figures in report_files/) and
report.json (for programs).

    model       what a report is
    document    the report as a whole: gathered from run folders, then written
    runs        a run folder as one column; scores: results/<data set>/ as numbers and curves
    comparison  what differs, gains, noise, errors, the paper's number
    render      page, Markdown, terminal, JSON; tables, charts, pictures

Not for: computing a metric (`resdet.evaluation`), or running a detector.
"""

from __future__ import annotations

from resdet.report.document import ReportPaths, compare

__all__ = ["ReportPaths", "compare"]
