"""One strict reader for images, and what is known of them before a pixel is decoded.

reader            read_image, read_size, ImageReader
header            the facts in an image's header; scan: the headers of a whole set
resize            a part of an image at another size
jpeg_rows         the upper rows of a JPEG; jpeg_truncation: what a cut JPEG lacks
"""
