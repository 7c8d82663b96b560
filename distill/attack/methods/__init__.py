"""Ways to perturb pixels, a file each."""
