"""The words reading: descriptions put back into the program and run, tuned, and measured beside n-gram models."""
