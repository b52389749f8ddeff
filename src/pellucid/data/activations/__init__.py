"""Activations of a language model over a text: captured in one stream, kept as moments and contexts of every unit."""
