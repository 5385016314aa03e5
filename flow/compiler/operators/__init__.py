"""One file for each operator: how it is tiled and turned into instructions."""
