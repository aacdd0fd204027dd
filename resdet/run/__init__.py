"""The run folder: `layout` names its files and imports nothing, `folder` reads and writes it."""
