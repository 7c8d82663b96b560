"""Checks against the papers of noise injection and band limits, on scikit-learn's digits."""
