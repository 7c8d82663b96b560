"""Synthetic gradients (Czarnecki et al. 2017, section 4.3): a network cut in two, its lower part trained by a guess."""
