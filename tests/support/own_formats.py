"""JSON files of labelling tools that are not COCO's, and what their page must name.

Not for: exports in COCO's form (`exports`).
"""

from __future__ import annotations

from typing import Any

POINTS = {"exterior": [[10, 10], [50, 40]], "interior": []}
OWN: dict[str, tuple[Any, str]] = {
    # labelme: labelmeai/labelme, labelme/_label_file.py.
    "labelme": (
        {"version": "5.4.1", "flags": {}, "imagePath": "a.jpg", "imageData": None,
         "imageHeight": 80, "imageWidth": 100, "shapes": [
             {"label": "cat", "points": [[10, 10], [50, 40]], "group_id": None,
              "shape_type": "rectangle", "flags": {}}]},
        "labelme2coco FOLDER",
    ),
    # VIA's project and its JSON of annotations: via.js, _via_img_metadata.
    "via project": (
        {"_via_settings": {}, "_via_img_metadata": {"a.jpg123": {"filename": "a.jpg"}},
         "_via_attributes": {}},
        "Export Annotations (COCO format)",
    ),
    "via json": (
        {"a.jpg123": {"filename": "a.jpg", "size": 123, "regions": [], "file_attributes": {}}},
        "Export Annotations (COCO format)",
    ),
    # Datumaro: openvinotoolkit.github.io/datumaro, data formats, "Datumaro".
    "datumaro": (
        {"info": {}, "categories": {"label": {"labels": [{"name": "cat", "parent": ""}]}},
         "items": [{"id": "a", "annotations": [], "image": {"path": "a.jpg"}}]},
        "datum convert -if datumaro",
    ),
    # Supervisely: developer.supervisely.com, supervisely-annotation-format/objects.
    "supervisely": (
        {"description": "", "tags": [], "size": {"height": 80, "width": 100}, "objects": [
            {"classTitle": "cat", "geometryType": "rectangle", "tags": [], "points": POINTS}]},
        "Export to COCO",
    ),
    # Label Studio: labelstud.io/guide/export, the raw JSON.
    "label studio": (
        [{"id": 1, "data": {"image": "/data/upload/a.jpg"}, "annotations": [{"result": []}]}],
        "choose Export, COCO",
    ),
    # CreateML, as Roboflow writes it.
    "createml": (
        [{"image": "a.jpg", "annotations": [
            {"label": "cat", "coordinates": {"x": 30, "y": 25, "width": 40, "height": 30}}]}],
        "export the set as COCO JSON",
    ),
    "results": (
        [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 30], "score": 0.5}],
        "give the set's instances here",
    ),
    "panoptic": (
        {"images": [], "annotations": [{"segments_info": [], "file_name": "a.png"}]},
        "panoptic file",
    ),
}  # fmt: skip
