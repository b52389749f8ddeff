"""Readings that are code, one file a reading."""
