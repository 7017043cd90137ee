"""The one code of a mask that is no class, for those who make, learn from and score masks."""

VOID = 255
"""Pixels of no known class: neither learnt from nor scored ("ignore")."""
