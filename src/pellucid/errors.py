"""What can go wrong, by cause. Every message is one line: what, why, and what to do about it."""

from __future__ import annotations


class PellucidError(Exception):
    """Base of all errors that pellucid raises on purpose. `exit_code` is what the command line ends with."""

    exit_code = 2


class BadInput(PellucidError):
    """A file, an argument or a tensor is not what it has to be."""


class CannotTrace(PellucidError):
    """The network cannot be exported to a dataflow graph."""


class InvalidProgram(PellucidError):
    """A program breaks a rule of the intermediate representation (see `pellucid.ir.validate`)."""


class CannotRun(PellucidError):
    """A program or one of its parts failed while running."""
