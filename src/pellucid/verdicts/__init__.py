"""Substitute, compare, control: what a reading is worth."""
