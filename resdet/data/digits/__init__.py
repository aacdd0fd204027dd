"""The embedded set: real handwritten digits on real photographs, made on first use.

Nothing is downloaded: digits and photographs lie in scikit-learn, scikit-image and matplotlib
(extra "demo"). The set is small, real enough not to be trivial (clutter, occlusion, letters and
curves as distractors, digits from 16 to 56 px, some fainter or smaller), and lies on disk as
users' own sets do: class folders, VOC's XML, COCO's JSON.

    digits_train, digits_val, digits_test              1,000, 300, 600 scenes of 144 x 144
    digits_crops_train, digits_crops_val, …_test       20,000, 1,000, 1,000 crops of 48 x 48

No handwritten digit and no pixel of a photograph occurs in two splits. Mirroring a digit makes
another sign of it: switch horizontal flips off in both trainers.

The same on every machine: draws come from raw 64-bit words, arithmetic is in integers, and
hashes of all pictures before encoding are published and tested. Crops are PNG and so exact to
the bit; scenes are JPEG, which libjpeg-turbo (in all wheels of Pillow and OpenCV) decodes to
the same pixels everywhere, and another libjpeg perhaps to values off by a level. make() logs a
warning when a machine differs.

Not for: numbers about anything but resdet itself. It shows the mechanism, not ImageNet.
"""

from resdet.data.cache import cache_folder
from resdet.data.digits.build import make
from resdet.data.digits.contact_sheet import preview
from resdet.data.digits.manifest import differences, read_manifest, what_is_wrong
from resdet.data.digits.material import credits_text
from resdet.data.digits.published import PUBLISHED, SIZES, VERSION
from resdet.data.digits.sources import locate
from resdet.data.digits.splits import SPLITS
from resdet.data.digits.writer import CLASSES

SOURCES = credits_text()

__all__ = [
    "CLASSES",
    "PUBLISHED",
    "SIZES",
    "SOURCES",
    "SPLITS",
    "VERSION",
    "cache_folder",
    "differences",
    "locate",
    "make",
    "preview",
    "read_manifest",
    "what_is_wrong",
]
