"""All settings together, and how they are read."""
