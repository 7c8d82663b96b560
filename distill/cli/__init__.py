"""The ``distill`` command."""
