"""Policy distillation for Atari with Sobolev training (Czarnecki et al., NeurIPS 2017).

``distill.api`` is the public Python API; ``distill --help`` the command line.
"""

__version__ = "0.1.0"

from distill.system import moved

moved.install()
