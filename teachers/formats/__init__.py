"""Files that agents come in."""
