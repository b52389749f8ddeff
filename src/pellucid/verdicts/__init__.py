"""The judge: substitute, compare, control. It knows programs and data, not how a reading was found or printed."""

from pellucid.verdicts.case import Effort
from pellucid.verdicts.ledger import loss_shares, measured_ledger
from pellucid.verdicts.record import read_verdicts, write_verdicts
from pellucid.verdicts.verify import Judgement, verify_directory

__all__ = [
    "Effort",
    "Judgement",
    "loss_shares",
    "measured_ledger",
    "read_verdicts",
    "verify_directory",
    "write_verdicts",
]
