"""From a program to files that run without pellucid."""
