"""Layers to VTA instruction streams: packing, tiling, lowering, tokens, programs and the Relax code generator."""
