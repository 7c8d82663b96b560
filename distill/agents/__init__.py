"""Who acts: actors, whole games, video."""
