"""Write quantized models for other tools."""
