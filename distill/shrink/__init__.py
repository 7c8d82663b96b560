"""``distill shrink``: how small a student may be."""
