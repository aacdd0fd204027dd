"""A trunk that does not train: its maps are computed once for each image (ENGINE.TRUNK_CACHE).

map_store    maps of one set of images on disk: checked, and filled over several starts
trunk_maps   computing them, and giving them to a detector in the place of its trunk

Not for: what is frozen (`architecture`), or how backbones are ranked by it.
"""
