"""On-policy distillation as one command: online, or in rounds of a data set that grows."""
