"""Images and annotations: one strict reader, checked sets, one order for all.

    catalog     sets by name: require, load_detection, load_classification, overlap
    images      read_image, read_size, ImageReader
    order       which image comes when
    digits      the embedded set

Not for: nets and training.
"""

from resdet.data.images.reader import ImageReader, read_image, read_size
from resdet.data.options import DataOptions
from resdet.data.records import ClassificationSet, DetectionSet

__all__ = [
    "ClassificationSet",
    "DataOptions",
    "DetectionSet",
    "ImageReader",
    "read_image",
    "read_size",
]
