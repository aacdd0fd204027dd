"""The run folder: `layout` names its files and imports nothing, `folder` reads and writes it,
`shapes` tells a damaged file from a whole one, `lock` has one process in it at a time,
`finished_parts` keeps the finished images of an evaluation."""
