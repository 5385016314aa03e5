"""Graph passes over TVM Relax: what the numbers are.

The folder is called ``relay_passes`` after the stack's graph level, where Relay stood; Relay left
TVM in 2025 and Relax is its successor, so the IR here is Relax.
"""
