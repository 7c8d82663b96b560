"""Functions of time and space: ReCU against ReLU and tanh, with and without derivatives in space."""
