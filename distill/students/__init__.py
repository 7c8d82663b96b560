"""Student networks, by name, and the folder a trained student lives in."""
