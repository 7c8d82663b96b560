"""One student of several games, or of several teachers."""
