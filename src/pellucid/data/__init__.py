"""Inputs, their splits, and declared domains."""

from pellucid.data.batches import Argument, Batch
from pellucid.data.domain import Domain
from pellucid.data.inputs import Inputs, Sampler, gather
from pellucid.data.splits import Splits, split
from pellucid.data.texts import Tokenizer

__all__ = ["Argument", "Batch", "Domain", "Inputs", "Sampler", "Splits", "Tokenizer", "gather", "split"]
