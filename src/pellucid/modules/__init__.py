"""From a graph and a tree of regions to a program of functions."""
