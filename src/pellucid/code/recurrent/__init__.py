"""Recurrent networks as loops over named state: recurrences, automata, running quantities."""
