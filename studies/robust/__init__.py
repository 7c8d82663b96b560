"""What makes students robust: their teacher, plain and Sobolev distillation, and defences, under attacks."""
