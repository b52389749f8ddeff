"""Words: parts of a language model described in a language that predicts, and the descriptions put back and run."""
