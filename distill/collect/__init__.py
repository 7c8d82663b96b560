"""Recording a dataset: who acts (rollout), what the teacher says of it (label), and the pipeline."""
