"""From the float graph to a graph of integers: quantize, fuse, requantize."""
