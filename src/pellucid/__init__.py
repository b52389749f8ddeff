"""pellucid: a decompiler for neural networks."""
