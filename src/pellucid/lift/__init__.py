"""From a network to its dataflow graph: load, trace, recognise."""
