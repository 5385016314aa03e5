"""TVM 0.9's quantization, number for number."""
