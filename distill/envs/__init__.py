"""Atari environments that show an agent exactly what it saw in training."""
