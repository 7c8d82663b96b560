"""How faithful a student is on held-out states, and how well it plays."""
