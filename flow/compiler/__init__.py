"""Layers to VTA instruction streams: packing, tiling, lowering, tokens, programs, codegen."""
