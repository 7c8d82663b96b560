"""Regression on classical optimisation functions: values only against values and derivatives."""
