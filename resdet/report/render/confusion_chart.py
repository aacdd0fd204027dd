"""A confusion matrix as SVG: rows are true classes, columns predicted ones.

A cell's strength is its share of the row, so that rare classes are seen as well; the diagonal has
another hue. With few classes names and numbers stand in it.

Not for: counting (`resdet.evaluation.classification`).
"""

from __future__ import annotations

from collections.abc import Sequence

from resdet.report.render.charts import fitted, number, svg, text

# More classes than this are drawn without names; than the second, without numbers.
NAMED, NUMBERED = 60, 20
_NAMES = 110.0


def confusion_chart(classes: Sequence[str], cells: Sequence[tuple[int, int, int]]) -> str:
    """The matrix of `ClassifierErrors.confusion`.

    Args:
        classes: K names.
        cells: (true, predicted, images) of the pairs that occur.
    """
    size = len(classes)
    named = size <= NAMED
    side = 34.0 if size <= NUMBERED else 12.0 if named else max(1.0, 640 / size)
    left, top = (_NAMES, _NAMES) if named else (24.0, 24.0)
    sums: dict[int, int] = {}
    for true, _, images in cells:
        sums[true] = sums.get(true, 0) + images
    parts = []
    for true, predicted, images in cells:
        hue = "hue-2" if true == predicted else "hue-1"
        # A single image of many is seen, too.
        strength = max(0.12, images / sums[true])
        x, y = left + predicted * side, top + true * side
        parts.append(
            f'<rect class="bar {hue}" x="{x:.2f}" y="{y:.2f}" width="{side:.2f}" '
            f'height="{side:.2f}" style="fill-opacity:{strength:.2f}"/>'
        )
        if size <= NUMBERED:
            parts.append(text(x + side / 2, y + side / 2 + 4, number(images), "middle", "name"))
    end = size * side
    if named:
        for i, name in enumerate(classes):
            middle = (i + 0.5) * side + 4
            parts.append(text(left - 6, top + middle, fitted(name, _NAMES - 26), "end", "name"))
            spot = f"{left + middle:.1f} {top - 6:.1f}"
            parts.append(
                text(left + middle, top - 6, fitted(name, _NAMES - 26), "start", "name",
                     f' transform="rotate(-90 {spot})"')
            )  # fmt: skip
    frame = f"M{left:g} {top:g}h{end:.2f}v{end:.2f}h{-end:.2f}z"
    parts.append(f'<path class="grid" d="{frame}"/>')
    parts.append(text(left + end / 2, 14, "predicted", "middle", "title"))
    middle = top + end / 2
    turn = f' transform="rotate(-90 13 {middle:.1f})"'
    parts.append(text(13, middle, "true class", "middle", "title", turn))
    wrong = sum(n for t, p, n in cells if t != p)
    label = f"Confusion matrix of {size} classes: {wrong} of {sum(sums.values())} images wrong"
    return svg(parts, left + end + 8, top + end + 8, label)
