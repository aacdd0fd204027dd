"""What the embedded set is made of: which file of which wheel, its hashes, author and licence.

Not for: finding and reading the files (`sources`).
"""

from __future__ import annotations

from dataclasses import dataclass

PIP_NAMES = {"sklearn": "scikit-learn", "skimage": "scikit-image", "matplotlib": "matplotlib"}
INSTALL = 'pip install "resdet[demo]"'


@dataclass(frozen=True)
class SourceFile:
    """One file of a wheel.

    `file_hash` and `array_hash` are the first 16 hex digits of the SHA-256 of its bytes and of
    its decoded array (H x W x 3 RGB, or 1797 x 65 values and labels).
    """

    package: str
    path: str
    file_hash: str
    array_hash: str
    title: str
    credit: str
    licence: str

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


CC0 = "CC0 1.0"
CC_BY = "CC BY 2.0"
PUBLIC = "public domain"
NO_KNOWN = "no known copyright restrictions"
AS_PACKAGE = "BSD 3-Clause, as the package"

DIGITS = SourceFile(
    "sklearn",
    "datasets/data/digits.csv.gz",
    "09f66e6debdee2cd",
    "68aea062d35a1277",
    "Optical recognition of handwritten digits (its test part)",
    "E. Alpaydin and C. Kaynak, 1998, UCI Machine Learning Repository, doi:10.24432/C50P49; "
    "as distributed by scikit-learn",
    "CC BY 4.0",
)

PHOTOS = (
    SourceFile(
        "sklearn",
        "datasets/images/china.jpg",
        "8378025ad2519d64",
        "e701459344fd6979",
        "Summer palace, China",
        "danielbuechele, flickr.com/photos/danielbuechele/6061409035",
        CC_BY,
    ),
    SourceFile(
        "sklearn",
        "datasets/images/flower.jpg",
        "a77f6ec41e353afd",
        "3202904ed246795b",
        "Flower",
        "vultilion, flickr.com/photos/vultilion/6056698931",
        CC_BY,
    ),
    SourceFile(
        "skimage",
        "data/astronaut.png",
        "88431cd9653ccd53",
        "a8c429c18afa7b0f",
        "Eileen Collins, astronaut",
        "NASA, flic.kr/p/r9qvLn",
        PUBLIC,
    ),
    SourceFile(
        "skimage",
        "data/ihc.png",
        "f8dd1aa387ddd1f4",
        "c5b3ef509a92f16d",
        "Immunohistochemical staining of colonic glands",
        "Center for Microscopy and Molecular Imaging (CMMI)",
        NO_KNOWN,
    ),
    SourceFile(
        "skimage",
        "data/coffee.png",
        "cc02f8ca188b167c",
        "0ce2b51640b9c95f",
        "Coffee cup",
        "Rachel Michetti, courtesy of Pikolo Espresso Bar",
        CC0,
    ),
    SourceFile(
        "skimage",
        "data/chelsea.png",
        "596aa1e7cb875eb7",
        "416b729128bfb2c3",
        "Chelsea the cat",
        "Stefan van der Walt",
        CC0,
    ),
    SourceFile(
        "skimage",
        "data/color.png",
        "7d2df993de2b4fa2",
        "4ce89baa8b291cfe",
        "Colour wheel",
        "scikit-image (no statement of its own)",
        AS_PACKAGE,
    ),
    SourceFile(
        "skimage",
        "data/motorcycle_left.png",
        "db18e9c415761740",
        "ca829467c1d4f427",
        "Motorcycle, left view",
        "D. Scharstein et al., Middlebury stereo benchmark, GCPR 2014, "
        "vision.middlebury.edu/stereo/data/scenes2014",
        "free use with citation, as the benchmark's page states",
    ),
    SourceFile(
        "skimage",
        "data/rocket.jpg",
        "c2dd0de7c538df8d",
        "3d4435cc745752b7",
        "Launch of DSCOVR on Falcon 9",
        "SpaceX, flickr.com/photos/spacexphotos/16511594820",
        PUBLIC,
    ),
    SourceFile(
        "skimage",
        "data/retina.jpg",
        "38a07f36f27f095e",
        "3670e389d0dae9f7",
        "Human retina",
        "Mikael Häggström 2014, WikiJournal of Medicine 1 (2), doi:10.15347/wjm/2014.008",
        CC0,
    ),
    SourceFile(
        "skimage",
        "data/hubble_deep_field.jpg",
        "3a19c5dd8a927a93",
        "9a3ea9548188f81e",
        "Hubble eXtreme Deep Field",
        "NASA, hubblesite.org, release 2012-37",
        PUBLIC,
    ),
    SourceFile(
        "skimage",
        "data/brick.png",
        "7966caf324f6ba84",
        "3501e216fb0968c3",
        "Brick wall",
        "CC0Textures, Bricks25",
        CC0,
    ),
    SourceFile(
        "skimage",
        "data/grass.png",
        "b6b6022426b38936",
        "c7ca5c984d6b5a27",
        "Grass",
        "linolafett, deviantart.com/art/Grass-01-434853879",
        CC0,
    ),
    SourceFile(
        "skimage",
        "data/gravel.png",
        "c48615b451bf1e60",
        "e73bd88250cbfd7f",
        "Gravel",
        "CC0Textures, Gravel04",
        CC0,
    ),
    SourceFile(
        "skimage",
        "data/camera.png",
        "b0793d2adda0fa6a",
        "13e2b4aa92cb1649",
        "Photographer with a camera",
        "Lav Varshney",
        CC0,
    ),
    SourceFile(
        "skimage",
        "data/moon.png",
        "78739619d11f7eb9",
        "a641c47851a3252e",
        "Surface of the moon",
        "scikit-image (no statement of its own)",
        AS_PACKAGE,
    ),
    SourceFile(
        "skimage",
        "data/coins.png",
        "f8d773fc9cfa6f4d",
        "aaecc2ad43bd43e2",
        "Greek coins from Pompeii",
        "Brooklyn Museum Collection, 51611",
        NO_KNOWN,
    ),
    SourceFile(
        "matplotlib",
        "mpl-data/sample_data/grace_hopper.jpg",
        "a8ca6d734765703b",
        "f7f982de68dd296a",
        "Rear Admiral Grace Hopper",
        "US Navy",
        PUBLIC,
    ),
)


def credits_text() -> str:
    """Titles, authors and licences of all material, as Markdown (SOURCES.md)."""
    rows = "\n".join(
        f"| `{s.name}` | {s.title} | {s.credit} | {s.licence} | {PIP_NAMES[s.package]} |"
        for s in (DIGITS, *PHOTOS)
    )
    return f"""# Sources of the embedded digits

Made by resdet from the files below, which came with the Python packages named in the last
column. Every picture here is a derived work: parts of the photographs, scaled, mirrored,
recoloured and covered, with handwritten digits painted on them.

| file | title | author or origin | licence | from |
| --- | --- | --- | --- | --- |
{rows}

Licences as the packages' own pages state them. CC BY asks for attribution: name the authors
above where you show pictures made from their works.
"""
