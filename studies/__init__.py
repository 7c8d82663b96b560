"""Does Sobolev training do here what its paper says? One folder a domain; docs/paper.md has the verdicts."""
