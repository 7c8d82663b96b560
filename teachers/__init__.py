"""Everything about the agent that teaches: loading, downloading and training it."""
