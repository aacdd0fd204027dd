"""An ILSVRC tree looked through, what can be made in it made, and a made-up one to try all with.

ilsvrc_preparation   what is there, what is missing and where it is from; lists that can be made
ilsvrc_trial         a small tree in ILSVRC's layout, painted from the embedded digits

Not for: loading (`ilsvrc_reader`) or the files' forms (`ilsvrc_tree`).
"""
