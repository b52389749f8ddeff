"""Dictionaries: transcoders and sparse autoencoders of a layer, trained, and written into the program as functions."""
