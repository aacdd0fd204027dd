"""Where weights come from: one file per origin, and one table of them (`registry`).

`origin`, `registry`, `identify`, `habits` and `reference_nets` serve all origins; every other file
is one origin, or one library's several formats (`detectron2`: its own, MSRA's and Caffe2's).

To add an origin, write one file here with an `origin.Origin` (see `pycls.py` for a short one) and
name it in `registry.ORIGINS`. The file states

    names         how it calls our layers (`Names`), one naming per family of nets
    habits        the input format, the stride rule, what one file states beyond that
    layouts       `to_ours` and `from_ours`, where its values mean something else
    library       what builds its net, to compare logits with, where something does

and nothing else needs to know of it: `identify` tells its files by their names, `habits` gives them
a card, `registry` renames and converts, `reference_nets` compares.
"""
