"""Run folders side by side: are they comparable, who is ahead, by how much, and why.

`compare` reads nothing but run folders, so a report can be made on another machine years later,
without torch and without Detectron2. Every number is in three files with the same content:
report.html (one page, nothing beside it), report.md (with its figures in report_files/) and
report.json (for programs).

    runs        a run folder as one column of the report
    scores      results/<data set>/ as numbers and curves, by `resdet.evaluation`
    sameness    what differs, and whether it is more than the backbone
    story       which pairs to compare, and the sentences about them
    paper       the paper's number where, and only where, the protocol is the same
    tables      the tables, once, for page, Markdown and terminal
    charts, pictures, document   what is seen

Not for: computing a metric (`resdet.evaluation`), or running a detector.
"""

from __future__ import annotations

from resdet.report.document import ReportPaths, compare

__all__ = ["ReportPaths", "compare"]
