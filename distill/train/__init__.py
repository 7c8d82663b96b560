"""Fitting a student to a dataset."""
