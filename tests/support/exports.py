"""What labelling tools export, each in the form that its own source or documentation shows.

Every builder writes a small export into a folder, pictures of 100 x 80 and annotations, and gives
where they lie. The values are made up; keys, types and oddities are the tool's.

Not for: VOC's form (`voc_exports`), formats of their own (`own_formats`), or damage done by hand
(`tests/data/readers/test_field_inputs.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

SIZE = (100, 80)
# x, y, width, height; whole within the pictures.
BOX, OTHER = [10.0, 10.0, 40.0, 30.0], [55.5, 20.25, 30.0, 50.5]
POLYGON = [55.5, 20.25, 85.5, 20.25, 85.5, 70.75, 55.5, 70.75]


@dataclass(frozen=True)
class CocoExport:
    """An export in COCO's form.

    classes: as they are read, by rising id. objects: that are read. counts: of repairs, by the
    loader's words. notes: beginnings of the loader's notes.
    """

    json: Path
    images: Path
    classes: tuple[str, ...]
    objects: int = 2
    crowds: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"coco:{self.json}:{self.images}"

    @property
    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.json.read_text(encoding="utf-8"))
        return content

    def write(self, content: Any) -> None:
        self.json.write_text(json.dumps(content), encoding="utf-8")


def pictures(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (200, 10 + 40 * number, 60)).save(path)
    return folder


def _export(path: Path, content: Any, images: Path, *args: Any, **more: Any) -> CocoExport:
    path.parent.mkdir(parents=True, exist_ok=True)
    export = CocoExport(path, images, *args, **more)
    export.write(content)
    return export


def cvat(folder: Path) -> CocoExport:
    """CVAT, "COCO 1.0": cvat-ai/datumaro, plugins/coco_format/converter.py.

    Boxes have `segmentation: []` and attributes; masks are crowds of run lengths; all of `info` is
    "", `license` 0, `date_captured` 0; a frame without an object is listed.
    """
    images = pictures(folder / "images" / "default", "a.jpg", "b.jpg")
    entry = lambda i, name: {  # noqa: E731
        "id": i, "width": 100, "height": 80, "file_name": name, "license": 0, "flickr_url": "",
        "coco_url": "", "date_captured": 0,
    }  # fmt: skip
    plain = {"image_id": 1, "iscrowd": 0, "attributes": {"occluded": False, "rotation": 0.0}}
    runs = {"counts": [0, 800, 7200], "size": [80, 100]}
    content = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": dict.fromkeys(["contributor", "date_created", "description", "url", "year"], ""),
        "categories": [
            {"id": 1, "name": "cat", "supercategory": ""},
            {"id": 2, "name": "dog", "supercategory": ""},
        ],
        "images": [entry(1, "a.jpg"), entry(2, "b.jpg")],
        "annotations": [
            {"id": 1, "category_id": 1, "segmentation": [], "area": 1200.0, "bbox": BOX, **plain},
            {"id": 2, "category_id": 2, "segmentation": [POLYGON], "area": 1515.0, "bbox": OTHER,
             **plain},
            {"id": 3, "category_id": 2, "segmentation": runs, "area": 800.0,
             "bbox": [0.0, 0.0, 10.0, 80.0], **plain, "iscrowd": 1},
        ],
    }  # fmt: skip
    path = folder / "annotations" / "instances_default.json"
    return _export(path, content, images, ("cat", "dog"), 3, 1)


def datumaro(folder: Path) -> CocoExport:
    """Datumaro, coco_instances: openvinotoolkit/datumaro, plugins/data_formats/coco/exporter.py.

    As CVAT's, but where the pictures were not at hand their size is 0 x 0, and scores stay.
    """
    export = cvat(folder)
    content = export.content
    for image in content["images"]:
        image["width"] = image["height"] = 0
    for entry in content["annotations"]:
        entry["score"] = 1.0
    export.write(content)
    counts = {"size missing, taken from the image": 2}
    return CocoExport(export.json, export.images, export.classes, 3, 1, counts)


def label_studio(folder: Path) -> CocoExport:
    """Label Studio, "COCO": HumanSignal/label-studio-converter, converter.py, convert_to_coco.

    Names begin with the folder `images`; all ids from 0; `ignore` beside `iscrowd`.
    """
    images = pictures(folder / "images", "1f2c-a.jpg", "9d00-b.jpg")
    entry = lambda i, name: {"width": 100, "height": 80, "id": i, "file_name": name}  # noqa: E731
    plain = {"image_id": 0, "ignore": 0, "iscrowd": 0}
    content = {
        "images": [entry(0, "images/1f2c-a.jpg"), entry(1, "images/9d00-b.jpg")],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
        "annotations": [
            {"id": 0, "category_id": 0, "segmentation": [], "bbox": BOX, "area": 1200.0, **plain},
            {"id": 1, "category_id": 1, "segmentation": [POLYGON], "bbox": OTHER, "area": 1515.0,
             **plain},
        ],
        "info": {"year": 2026, "version": "1.0", "description": "", "contributor": "Label Studio",
                 "url": "", "date_created": "2026-11-29 10:00:00.000001"},
    }  # fmt: skip
    notes = ("no listed file is in the folder that its name has (images/1f2c-a.jpg)",)
    return _export(folder / "result.json", content, images, ("cat", "dog"), notes=notes)


def roboflow(folder: Path) -> CocoExport:
    """Roboflow, "COCO": the file in roboflow-100-benchmark#45 and rf-detr#1303.

    A root category with id 0 above all others; ids from 0; the file lies among its pictures.
    """
    names = [f"{n}_jpg.rf.{n * 16}.jpg" for n in "ab"]
    images = pictures(folder / "train", *names)
    content = {
        "info": {"year": "2026", "version": "1", "description": "Exported from roboflow.com",
                 "contributor": "", "url": "https://public.roboflow.com/object-detection/undefined",
                 "date_created": "2026-11-29T10:00:00+00:00"},
        "licenses": [{"id": 1, "url": "https://creativecommons.org/licenses/by/4.0/",
                      "name": "CC BY 4.0"}],
        "categories": [
            {"id": 0, "name": "pets", "supercategory": "none"},
            {"id": 1, "name": "cat", "supercategory": "pets"},
            {"id": 2, "name": "dog", "supercategory": "pets"},
        ],
        "images": [
            {"id": i, "license": 1, "file_name": name, "height": 80, "width": 100,
             "date_captured": "2026-11-29T10:00:00+00:00", "extra": {"name": f"{name[0]}.jpg"}}
            for i, name in enumerate(names)
        ],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 1, "bbox": [10, 10, 40, 30], "area": 1200,
             "segmentation": [], "iscrowd": 0},
            {"id": 1, "image_id": 0, "category_id": 2, "bbox": OTHER, "area": 1515,
             "segmentation": [], "iscrowd": 0},
        ],
    }  # fmt: skip
    path = images / "_annotations.coco.json"
    return _export(path, content, images, ("pets", "cat", "dog"))


def labelme2coco(folder: Path) -> CocoExport:
    """labelme2coco: fcakyon/labelme2coco, labelme2coco.py, by sahi's utils/coco.py.

    Category ids from 0, whole-numbered areas, `imagePath` as labelme has it, with Windows' slashes.
    """
    images = pictures(folder / "images", "a.jpg", "b.jpg")
    content = {
        "images": [
            {"id": 1, "file_name": "..\\images\\a.jpg", "height": 80, "width": 100},
            {"id": 2, "file_name": "..\\images\\b.jpg", "height": 80, "width": 100},
        ],
        "annotations": [
            {"iscrowd": 0, "image_id": 1, "bbox": [10, 10, 40, 30], "segmentation": [],
             "category_id": 0, "id": 1, "area": 1200},
            {"iscrowd": 0, "image_id": 1, "bbox": OTHER, "segmentation": [POLYGON],
             "category_id": 1, "id": 2, "area": 1515},
        ],
        "categories": [
            {"id": 0, "name": "cat", "supercategory": "cat"},
            {"id": 1, "name": "dog", "supercategory": "dog"},
        ],
    }  # fmt: skip
    notes = ("every area is its box's",)
    return _export(folder / "dataset.json", content, images, ("cat", "dog"), notes=notes)


def via(folder: Path) -> CocoExport:
    """VIA 2, "Export Annotations (COCO format)": via.js, export_project_to_coco_format.

    `license` 0, the file's name in both URLs, circles and polygons with their box's area.
    """
    images = pictures(folder, "a.jpg", "b.jpg")
    entry = lambda i, name: {  # noqa: E731
        "id": i, "width": 100, "height": 80, "file_name": name, "license": 0, "flickr_url": name,
        "coco_url": name, "date_captured": "",
    }  # fmt: skip
    plain = {"iscrowd": 0, "image_id": 1}
    content = {
        "info": {"year": 2026, "version": "1.0", "description": "VIA project exported to COCO "
                 "format using VGG Image Annotator", "contributor": "", "url": "",
                 "date_created": "Sun Nov 29 2026 10:00:00 GMT+0000"},
        "images": [entry(1, "a.jpg"), entry(2, "b.jpg")],
        "annotations": [
            {"segmentation": [[10, 10, 50, 10, 50, 40, 10, 40]], "area": 1200,
             "bbox": [10, 10, 40, 30], **plain, "id": 1, "category_id": 1},
            {"segmentation": [POLYGON], "area": 1515.0, "bbox": OTHER, **plain, "id": 2,
             "category_id": 2},
        ],
        "licenses": [{"id": 0, "name": "Unknown License", "url": ""}],
        "categories": [{"supercategory": "kind", "id": 1, "name": "cat"},
                       {"supercategory": "kind", "id": 2, "name": "dog"}],
    }  # fmt: skip
    notes = ("every area is its box's",)
    path = folder / "via_export_coco.json"
    return _export(path, content, images, ("cat", "dog"), notes=notes)


def via_point(number: int) -> dict[str, Any]:
    """What VIA writes for a point: empty lists in place of a box and an area."""
    return {
        "segmentation": [[]], "area": [], "bbox": [], "iscrowd": 0, "keypoints": [50, 40, 2],
        "num_keypoints": 1, "id": number, "image_id": 1, "category_id": 1,
    }  # fmt: skip


def supervisely(folder: Path) -> CocoExport:
    """Supervisely, "Export to COCO": supervisely/convert/image/coco/coco_helper.py.

    Areas count the pixels of both edges, (width + 1) x (height + 1), where boxes do not; ids of
    categories from 0, "None" as text.
    """
    images = pictures(folder / "images", "a.jpg", "b.jpg")
    plain = {"segmentation": [], "iscrowd": 0, "image_id": 1}
    content = {
        "info": {"description": "COCO dataset converted from Supervisely", "url": "None",
                 "version": "1.0", "year": 2026, "contributor": "Supervisely",
                 "date_created": "2026-11-29 10:00:00"},
        "licenses": [{"url": "None", "id": 0, "name": "None"}],
        "images": [
            {"license": "None", "file_name": name, "url": "None", "height": 80, "width": 100,
             "date_captured": "2026-11-29T10:00:00.000Z", "id": i, "sly_id": 31337 + i}
            for i, name in enumerate(["a.jpg", "b.jpg"], 1)
        ],
        "annotations": [
            {"id": 1, **plain, "area": 41.0 * 31.0, "bbox": [10, 10, 40, 30], "category_id": 0},
            {"id": 2, **plain, "area": 31.0 * 51.0, "bbox": [55, 20, 30, 50], "category_id": 1},
        ],
        "categories": [{"supercategory": "cat", "id": 0, "name": "cat"},
                       {"supercategory": "dog", "id": 1, "name": "dog"}],
    }  # fmt: skip
    counts = {"area that no mask in its box has, kept": 2}
    path = folder / "annotations" / "instances.json"
    return _export(path, content, images, ("cat", "dog"), counts=counts)


def lvis(folder: Path) -> CocoExport:
    """LVIS v1: lvisdataset.org, as Detectron2's data/datasets/lvis.py reads it.

    No file_name but a URL, no iscrowd, lists of categories that were looked for.
    """
    images = pictures(folder, "val2017/000000000001.jpg", "val2017/000000000002.jpg")
    entry = lambda i: {  # noqa: E731
        "id": i, "date_captured": "2013-11-14 16:28:13", "license": 4, "height": 80, "width": 100,
        "flickr_url": "http://farm4.staticflickr.com/x.jpg", "neg_category_ids": [7],
        "coco_url": f"http://images.cocodataset.org/val2017/{i:012}.jpg",
        "not_exhaustive_category_ids": [],
    }  # fmt: skip
    category = lambda i, name: {  # noqa: E731
        "id": i, "name": name, "synset": f"{name}.n.01", "synonyms": [name], "def": "an animal",
        "frequency": "f", "image_count": 1, "instance_count": 1,
    }  # fmt: skip
    content = {
        "info": {"description": "LVIS v1.0 validation", "version": "1.0", "year": "2020"},
        "licenses": [],
        "images": [entry(1), entry(2)],
        "annotations": [
            {"id": 1, "area": 1200.0, "image_id": 1, "bbox": BOX, "category_id": 3,
             "segmentation": [[10.0, 10.0, 50.0, 10.0, 50.0, 40.0, 10.0, 40.0]]},
            {"id": 2, "area": 1515.0, "image_id": 1, "bbox": OTHER, "category_id": 7,
             "segmentation": [POLYGON]},
        ],
        "categories": [category(3, "cat"), category(7, "dog")],
    }  # fmt: skip
    counts = {"file_name missing, taken from coco_url": 2, "iscrowd missing, read as 0": 2}
    notes = ("federated as LVIS",)
    path = folder / "lvis_v1_val.json"
    return _export(path, content, images, ("cat", "dog"), counts=counts, notes=notes)


def open_images(folder: Path) -> CocoExport:
    """Open Images in COCO's form: bethgelab/openimages2coco, utils.py.

    Ids of images are text; groups are crowds without a mask; more flags than COCO has.
    """
    images = pictures(folder / "validation", "0001eeaf4aed83f9.jpg", "0004886b7d043cfd.jpg")
    entry = lambda i: {  # noqa: E731
        "id": i, "file_name": f"{i}.jpg", "original_url": "https://farm6.staticflickr.com/x.jpg",
        "neg_category_ids": [2], "pos_category_ids": [1], "license": 0, "width": 100, "height": 80,
    }  # fmt: skip
    flags = {"isoccluded": 0, "istruncated": 1, "isdepiction": 0, "isinside": 0}
    first = {"image_id": "0001eeaf4aed83f9"}
    content = {
        "info": {"description": "Open Images Dataset V6", "year": 2020},
        "licenses": [{"id": 0, "name": "CC BY 2.0", "url": "https://creativecommons.org"}],
        "categories": [{"id": 1, "name": "Cat", "freebase_id": "/m/01yrx"},
                       {"id": 2, "name": "Dog", "freebase_id": "/m/0bt9lr"}],
        "images": [entry("0001eeaf4aed83f9"), entry("0004886b7d043cfd")],
        "annotations": [
            {"id": 1, **first, "original_category_id": "/m/01yrx", "category_id": 1, "bbox": BOX,
             "area": 1200.0, **flags, "iscrowd": 0},
            {"id": 2, **first, "original_category_id": "/m/0bt9lr", "category_id": 2, "bbox": OTHER,
             "area": 1515.0, **flags, "iscrowd": 0},
            {"id": 3, **first, "original_category_id": "/m/0bt9lr", "category_id": 2,
             "bbox": [0.0, 0.0, 10.0, 80.0], "area": 800.0, **flags, "iscrowd": 1},
        ],
    }  # fmt: skip
    path = folder / "openimages_v6_val_bbox.json"
    return _export(path, content, images, ("Cat", "Dog"), 3, 1, notes=("federated as LVIS",))


def fiftyone(folder: Path) -> CocoExport:
    """FiftyOne, COCODetectionDataset: voxel51/fiftyone, utils/coco.py (0.8 to 0.13).

    Everything that a detection does not have is null; `data/` beside `labels.json`.
    """
    images = pictures(folder / "data", "a.jpg", "b.jpg")
    unknown = {"segmentation": None, "keypoints": None, "num_keypoints": None, "iscrowd": None}
    content = {
        "info": {"year": "", "version": "", "description": "Exported from FiftyOne",
                 "contributor": "", "url": "https://voxel51.com/fiftyone", "date_created": "x"},
        "licenses": [],
        "categories": [{"id": 0, "name": "cat", "supercategory": None},
                       {"id": 1, "name": "dog", "supercategory": None}],
        "images": [
            {"id": i, "file_name": name, "height": 80, "width": 100, "license": None,
             "coco_url": None}
            for i, name in enumerate(["a.jpg", "b.jpg"], 1)
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 0, "bbox": BOX, "area": 1200.0, **unknown},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": OTHER, "area": 1515.0, **unknown},
        ],
    }  # fmt: skip
    counts = {"iscrowd null, read as 0": 2}
    return _export(folder / "labels.json", content, images, ("cat", "dog"), counts=counts)


def make_sense(folder: Path) -> CocoExport:
    """MakeSense, "COCO JSON": SkalskiP/make-sense, src/logic/export/polygon/COCOExporter.ts.

    Annotations are numbered from 0; nothing but polygons; no licenses.
    """
    images = pictures(folder / "images", "a.jpg", "b.jpg")
    corners = [10, 10, 50, 10, 50, 40, 10, 40]
    content = {
        "info": {"description": "my-project-name"},
        "images": [{"id": i, "width": 100, "height": 80, "file_name": name}
                   for i, name in enumerate(["a.jpg", "b.jpg"], 1)],
        "annotations": [
            {"id": 0, "iscrowd": 0, "image_id": 1, "category_id": 1, "segmentation": [corners],
             "bbox": [10, 10, 40, 30], "area": 1200},
            {"id": 1, "iscrowd": 0, "image_id": 1, "category_id": 2, "segmentation": [POLYGON],
             "bbox": OTHER, "area": 1515},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }  # fmt: skip
    return _export(folder / "labels_my-project-name.json", content, images, ("cat", "dog"))


COCO = (
    cvat, datumaro, label_studio, roboflow, labelme2coco, via, supervisely, lvis, open_images,
    fiftyone, make_sense,
)  # fmt: skip
