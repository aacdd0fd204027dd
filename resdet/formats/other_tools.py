"""What a JSON file is that should have been COCO's instances: told by its keys.

Labelling tools have a format of their own beside the export in COCO's. One sentence for each names
the tool and the command or menu that writes COCO's JSON.

Sources: labelme's and VIA's project files, Datumaro's, Supervisely's, Label Studio's and CreateML's
JSON as their documentation has them; COCO's data format (cocodataset.org/#format-data).

Not for: files that are no JSON (`foreign`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

# Entries that are looked at.
LOOKED_AT = 20


def describe_json(content: object) -> str:
    """What the value of a JSON file is, and what to do; "" where it is not known.

    >>> describe_json([{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}])[:44]
    'It is a list of results, as RESULTS takes it'
    """
    if isinstance(content, Mapping):
        return _of_object(content)
    if isinstance(content, Sequence) and not isinstance(content, str):
        entries = [e for e in islice(content, LOOKED_AT) if isinstance(e, Mapping)]
        return _of_list(entries) if entries and len(entries) == len(content[:LOOKED_AT]) else ""
    return ""


def _has(entry: object, *keys: str) -> bool:
    return isinstance(entry, Mapping) and all(key in entry for key in keys)


def _of_object(content: Mapping[str, Any]) -> str:
    if _has(content, "shapes", "imagePath"):
        return (
            "It is labelme's file of one image: write COCO's JSON of its folder with "
            "labelme2coco FOLDER."
        )
    values = list(islice(content.values(), LOOKED_AT))
    if "_via_img_metadata" in content or (
        values and all(_has(v, "filename", "regions") for v in values)
    ):
        return "It is VIA's own format: in VIA choose Annotation, Export Annotations (COCO format)."
    if _has(content, "items", "categories") and isinstance(content["categories"], Mapping):
        return (
            "It is Datumaro's own format: write COCO's with datum convert -if datumaro -i FOLDER "
            "-f coco_instances -o OUT."
        )
    if _has(content, "objects", "size") and isinstance(content["objects"], list):
        return (
            "It is Supervisely's file of one image: export the project with its app Export to COCO."
        )
    if content.get("type") == "FeatureCollection":
        return "It is GeoJSON, whose coordinates are of a map: convert it to COCO's JSON in pixels."
    annotations = content.get("annotations")
    first = annotations[:1] if isinstance(annotations, list) else []
    if first and _has(first[0], "segments_info"):
        return "It is COCO's panoptic file: give the set's instances file."
    if first and _has(first[0], "caption"):
        return "It is COCO's captions file: give the set's instances file."
    return ""


def _of_list(entries: Sequence[Mapping[str, Any]]) -> str:
    if all(_has(e, "image_id", "category_id", "score") for e in entries):
        return "It is a list of results, as RESULTS takes it: give the set's instances here."
    if all(_has(e, "image_id", "category_id") for e in entries):
        return (
            "It is the list of annotations alone: an instances file has images and categories "
            "beside it."
        )
    if all(_has(e, "annotations", "data") or _has(e, "completions", "data") for e in entries):
        return (
            "It is Label Studio's own format: choose Export, COCO, or type label-studio-converter "
            "export -i FILE -o OUT -f COCO -c CONFIG.xml."
        )
    if all(_has(e, "image", "annotations") or _has(e, "imagefilename") for e in entries):
        return "It is CreateML's format: export the set as COCO JSON from the tool that wrote it."
    return ""
