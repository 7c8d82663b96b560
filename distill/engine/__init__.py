"""How the gradient is made."""
