"""Learn what integers there are: rounding, scales and biases together, block by block (PyTorch)."""
