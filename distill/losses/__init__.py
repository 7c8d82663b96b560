"""The objective: a divergence between policies plus a Sobolev term on their derivatives."""
