"""Machines that differ from a given one in chosen quantities, and the units of these."""
