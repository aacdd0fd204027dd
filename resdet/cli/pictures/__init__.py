"""Commands for looking: boxes on pictures (`detect`), pictures of runs (`visualize`)."""
