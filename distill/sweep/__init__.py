"""``distill sweep``."""
