"""The directory of a trained network: which of its files are read to decompile it."""

from __future__ import annotations

from pathlib import Path

NETWORK, INPUTS = "network.pt2", "inputs.npz"


def is_trained(directory: Path) -> bool:
    """Whether a directory was written by `pellucid train`."""
    return (directory / NETWORK).is_file() and not (directory / "config.json").exists()


def inputs_of(source: object) -> Path | None:
    """The inputs that lie beside a trained network; None where the source is no such directory or has none."""
    if not isinstance(source, str | Path):
        return None
    directory = Path(source)
    inputs = directory / INPUTS
    return inputs if is_trained(directory) and inputs.is_file() else None
