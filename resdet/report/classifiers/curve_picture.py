"""Figures 4 and 6 of He et al. 2015: training error thin, test error bold, of several runs.

Not for: reading runs (`training_curves`).
"""

from __future__ import annotations

from collections.abc import Sequence

from resdet.report.classifiers.count_picture import NUM_HUES
from resdet.report.classifiers.training_curves import TrainingCurves
from resdet.report.render.charts import Look
from resdet.report.render.plot import PlotLine, PlotMark, axis_over, plot

CAPTION = (
    "Thin: training error of the batches, with augmentation. Bold: test error. Dotted: rate drops."
)


def looks_of(runs: Sequence[TrainingCurves]) -> list[Look]:
    """Plain nets dashed; a hue per run, or per depth where there are more runs than hues.

    Where two of many would look alike, each has a look of its own.
    """
    depths = sorted({run.depth or 0 for run in runs})
    dashes = [1 if run.is_plain else 0 for run in runs]
    if len(runs) <= NUM_HUES:
        pairs = list(enumerate(dashes))
    else:
        hues = [depths.index(run.depth or 0) % NUM_HUES for run in runs]
        pairs = list(zip(hues, dashes, strict=True))
        if len(set(pairs)) < len(pairs):
            pairs = [(i % NUM_HUES, i // NUM_HUES % 4) for i in range(len(runs))]
    return [Look(run.title, *pair) for run, pair in zip(runs, pairs, strict=True)]


def curve_picture(
    runs: Sequence[TrainingCurves],
    looks: Sequence[Look] | None = None,
    *,
    log_x: bool = False,
    log_y: bool = False,
    most: float | None = None,
) -> str:
    """The drawing as SVG.

    Args:
        looks: one for each run; by default `looks_of`.
        log_x, log_y: logarithmic axes.
        most: upper end of the error axis, in percent.
    """
    looks = looks or looks_of(runs)
    trained = [run.train.thinned()[0] for run in runs]
    steps = [float(s) for t in trained for s in t.steps]
    steps += [float(s) for run in runs for s in run.test.steps]
    errors = [e for curve in (*trained, *(run.test for run in runs)) for e in curve.errors]
    x_axis = axis_over(steps, "steps", is_log=log_x)
    y_axis = axis_over(errors, "top-1 error, %", is_log=log_y, top=most, at_most=100.0)
    lines = [
        PlotLine(look, t.steps, t.errors, "thin") for look, t in zip(looks, trained, strict=True)
    ]
    lines += [
        PlotLine(look, run.test.steps, run.test.errors, "bold", has_dots=len(run.test.steps) <= 40)
        for look, run in zip(looks, runs, strict=True)
    ]
    names = ", ".join(look.name for look in looks)
    label = f"Training and test error against steps of {names}"
    return plot(lines, x_axis, y_axis, label=label, marks=_marks(runs, looks))


def _marks(runs: Sequence[TrainingCurves], looks: Sequence[Look]) -> list[PlotMark]:
    """A drop that all runs have that came so far once, in grey; else in the colour of its run."""
    places = sorted({(drop.step, drop.why) for run in runs for drop in run.drops})
    marks = []
    for step, why in places:
        have = [any((d.step, d.why) == (step, why) for d in run.drops) for run in runs]
        if all(has or run.steps < step for has, run in zip(have, runs, strict=True)):
            marks.append(PlotMark(step, None, _note(why)))
        else:
            marks += [PlotMark(step, look, _note(why))
                      for has, look in zip(have, looks, strict=True) if has]  # fmt: skip
    return marks


def _note(why: str) -> str:
    return "" if why == "schedule" else why
