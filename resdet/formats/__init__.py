"""Files of others as they lie on disk, read strictly, by one parser for all who need them.

What a training set and a score read from one file cannot differ (`docs/faults.md` F90). The
standard library is enough.

Not for: what a set of such files means (`resdet.data`, `resdet.evaluation`).
"""
