"""What labelling tools export in VOC's form, each as its own source or documentation shows.

Not for: COCO's form (`exports`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.exports import pictures
from tests.support.voc_xml import annotation as voc_annotation
from tests.support.voc_xml import tags, voc_object


@dataclass(frozen=True)
class VocExport:
    """An export in VOC's form: its root, the split to ask for, and the options that it needs."""

    root: Path
    split: str
    origin: int = 0
    counts: dict[str, int] = field(default_factory=dict)


def _xml(
    folder: Path,
    name: str,
    boxes: Sequence[tuple[str, Sequence[object]]],
    more: str,
    head: str = "",
) -> None:
    objects = "".join(voc_object(label, box, more) for label, box in boxes)
    text = voc_annotation(objects, size=("100", "80")).replace(
        "<annotation>", f"<annotation>{head}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.xml").write_text(text, encoding="utf-8")


def cvat_voc(folder: Path) -> VocExport:
    """CVAT, "PASCAL VOC 1.1": cvat-ai/datumaro, plugins/voc_format/converter.py.

    The layout is VOC's; corners are fractions counted from 0, attributes follow each object.
    """
    pictures(folder / "JPEGImages", "a.jpg", "b.jpg")
    value = (
        "<attributes><attribute><name>rotation</name><value>0.0</value></attribute></attributes>"
    )
    more = tags(truncated=0, occluded=0, difficult=0) + value
    head = "<folder/><filename>a.jpg</filename><segmented>0</segmented>"
    boxes = [("cat", (0.0, 10.5, 40.25, 40.0)), ("dog", (55.5, 20.25, 100.0, 80.0))]
    _xml(folder / "Annotations", "a", boxes, more, head)
    _xml(folder / "Annotations", "b", [], more, head)
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "default.txt").write_text("a\nb\n", encoding="utf-8")
    (folder / "labelmap.txt").write_text("# label:color_rgb:parts:actions\ncat:1,2,3::\n")
    return VocExport(folder, "default")


def label_studio_voc(folder: Path) -> VocExport:
    """Label Studio, "Pascal VOC XML": label-studio-converter, converter.py, convert_to_voc.

    Pictures in `images`, no image list, corners counted from 0.
    """
    pictures(folder / "images", "a.jpg", "b.jpg")
    more = tags(pose="Unspecified", truncated=0, difficult=0)
    head = "<folder>images</folder><owner><name>Label Studio</name></owner>"
    boxes = [("cat", (0, 10, 40, 40)), ("dog", (55, 20, 85, 70))]
    _xml(folder / "Annotations", "a", boxes, more, head)
    _xml(folder / "Annotations", "b", boxes[:1], more, head)
    return VocExport(folder, "all")


def roboflow_voc(folder: Path) -> VocExport:
    """Roboflow, "Pascal VOC": one folder a split with XML and pictures together.

    The form is that of its exports in datumaro's tests (assets/roboflow_dataset/roboflow_voc).
    """
    name = "a_jpg.rf." + "a" * 16
    pictures(folder / "train", f"{name}.jpg")
    more = tags(pose="Unspecified", truncated=0, difficult=0, occluded=0)
    head = f"<folder/><filename>{name}.jpg</filename><path>{name}.jpg</path>"
    boxes = [("cat", (1, 10, 40, 40)), ("dog", (55, 20, 85, 70))]
    _xml(folder / "train", name, boxes, more, head)
    return VocExport(folder, "train", origin=1)


def make_sense_voc(folder: Path) -> VocExport:
    """MakeSense, "VOC XML": src/logic/export/RectLabelsExporter.ts; the zip beside the pictures.

    `truncated` and `difficult` are "Unspecified".
    """
    pictures(folder, "a.jpg", "b.jpg")
    more = tags(pose="Unspecified", truncated="Unspecified", difficult="Unspecified")
    boxes = [("cat", (0, 10, 40, 40)), ("dog", (55, 20, 85, 70))]
    _xml(folder, "a", boxes, more)
    _xml(folder, "b", boxes[:1], more)
    return VocExport(folder, "all", counts={"difficult Unspecified, read as 0": 3})


def fiftyone_voc(folder: Path) -> VocExport:
    """FiftyOne, VOCDetectionDataset: docs.voxel51.com, export_datasets; `data/` and `labels/`."""
    pictures(folder / "data", "a.jpg", "b.jpg")
    more = tags(pose="Unspecified", truncated=0, difficult=0, occluded=0)
    boxes = [("cat", (0, 10, 40, 40)), ("dog", (55, 20, 85, 70))]
    _xml(folder / "labels", "a", boxes, more, "<folder/>")
    _xml(folder / "labels", "b", [], more, "<folder/>")
    return VocExport(folder, "all")


VOC = (cvat_voc, label_studio_voc, roboflow_voc, make_sense_voc, fiftyone_voc)
