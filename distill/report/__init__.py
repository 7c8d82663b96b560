"""``distill report``."""
