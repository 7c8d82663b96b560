"""Policy distillation on three games at 1 to 50 % of the data: the core of the paper."""
