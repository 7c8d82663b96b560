"""The dataset on disk: frames stored once, logits, projections and compact Jacobians."""
