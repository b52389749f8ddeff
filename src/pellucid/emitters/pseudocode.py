"""Pseudocode of a program and of single functions; printed by `pellucid.ir.printing`, which `Program.text` uses too."""

from __future__ import annotations

from pellucid.ir.printing import function_source as function_text
from pellucid.ir.printing import program_text

__all__ = ["function_text", "program_text"]
