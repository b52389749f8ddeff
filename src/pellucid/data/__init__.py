"""Inputs, their splits, and declared domains."""
