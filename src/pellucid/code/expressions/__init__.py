"""Finite functions as expressions: Boolean, threshold, affine, modular, the smallest of a grammar, a table at last."""
