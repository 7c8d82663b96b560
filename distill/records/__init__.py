"""What is written down: forms, checksums, readers and writers."""
