"""What teacher and student share: layers and networks."""
