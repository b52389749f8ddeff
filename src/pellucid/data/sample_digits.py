"""Small pictures to try things on: scikit-learn's 1,797 handwritten digits of 8×8 pixels."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

from pellucid.errors import BadInput


def pictures() -> tuple[Float[torch.Tensor, "samples 64"], Int[torch.Tensor, " samples"]]:
    """The pictures, pixels from 0 to 1, in a fixed random order, and the digits they show.

    Raises:
        BadInput: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise BadInput("the digits come with scikit-learn; pip install 'pellucid[demo]'") from error
    pixels, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(digits))
    return torch.tensor(pixels[order] / 16.0).float(), torch.tensor(digits[order])
