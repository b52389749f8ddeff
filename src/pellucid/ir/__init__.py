"""The intermediate representation: graphs, programs, readings, and how they run."""
