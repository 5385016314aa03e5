"""Which forms of a variant are kept: of each layer, and of the whole network."""
