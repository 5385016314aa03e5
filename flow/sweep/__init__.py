"""The design space of machines: which one is the best choice for a network."""
