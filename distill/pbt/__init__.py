"""Population based training: settings that change while students train, found by a population of them."""
