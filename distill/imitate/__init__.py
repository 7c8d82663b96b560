"""Online imitation: the student plays its own games, and learns what the teacher says of them while it plays."""
