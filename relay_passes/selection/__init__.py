"""Selection of candidate configurations: for each layer, and for the whole network."""
