"""L2,d-spectral radius dimensionality reduction of J. Van Name (LSRDR), and the cluster projections that it gives.

For square matrices A_1 … A_r, d-dimensional X_1 … X_r are sought that make
ρ(Σ A_k ⊗ X_k) / ρ(Σ X_k ⊗ X_k)^½ as large as possible, with ρ the spectral radius. At a maximum X_k = R A_k S up to a
factor, and S (R S)⁻¹ R is a projection of rank d. Where the matrices fall into blocks that share no feature it projects
onto one block: its diagonal says which features are in.

The way there is a damped fixed point. With Z, Y the right and left eigenvectors of X ↦ Σ A_k Z X_kᵀ, and P, Q those of
Σ X_k ⊗ X_k, the gradient is zero where X_k is proportional to Q⁻¹ Yᵀ A_k Z P⁻¹; X moves towards that as far as the
ratio rises. All eigenvectors come from a few steps of power iteration, kept from step to step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from pellucid.errors import BadInput

STEPS, INNER, RESTARTS = 300, 8, 3
_STILL = 1e-7
_SINGULAR = 1e-6


@dataclass(frozen=True, eq=False)
class Reduction:
    """The reduced matrices, the projection onto what they keep, and the ratio that was reached."""

    reduced: Float[np.ndarray, "count kept kept"]
    projection: Float[np.ndarray, "features features"]
    ratio: float


@dataclass(frozen=True, eq=False)
class _Point:
    """Reduced matrices with their eigenvectors: Z, Y between A and X, P, Q of X alone."""

    x: np.ndarray
    z: np.ndarray
    y: np.ndarray
    p: np.ndarray
    q: np.ndarray
    between: float
    alone: float

    @property
    def ratio(self) -> float:
        return self.between / self.alone**0.5 if self.alone > 0 else 0.0


def reduction(matrices: Float[np.ndarray, "count features features"], dimension: int, seed: int = 0) -> Reduction:
    """The best reduction to `dimension` of a few random starts.

    Raises:
        BadInput: matrices that are all zero or not finite, or a dimension that is not from 1 to the number of features.
    """
    if not np.isfinite(matrices).all() or not matrices.any():
        raise BadInput("the matrices of the bilinear layer are all zero, or NaN or Inf; train the network first")
    if not 1 <= dimension <= matrices.shape[1]:
        raise BadInput(f"{matrices.shape[1]} features cannot be reduced to {dimension}")
    rng = np.random.default_rng(seed)
    return max((_ascended(matrices, dimension, rng) for _ in range(RESTARTS)), key=lambda found: found.ratio)


def _ascended(
    matrices: Float[np.ndarray, "count features features"], dimension: int, rng: np.random.Generator
) -> Reduction:
    start, _ = np.linalg.qr(rng.standard_normal((matrices.shape[1], dimension)))
    x = np.einsum("ia,kij,jb->kab", start, matrices, start, optimize=True)
    unit = np.eye(dimension)
    point = _at(matrices, _Point(x / max(np.linalg.norm(x), 1e-30), start, start, unit, unit, 0.0, 0.0), 4 * INNER)
    reach = 1.0
    for _ in range(STEPS):
        goal = _goal(matrices, point)
        after = point
        while reach > 1e-4 and after.ratio <= point.ratio:
            x = (1 - reach) * point.x + reach * goal
            moved = _Point(x / np.linalg.norm(x), point.z, point.y, point.p, point.q, 0.0, 0.0)
            after = _at(matrices, moved, INNER)
            reach = reach / 2 if after.ratio <= point.ratio else min(1.0, 1.5 * reach)
        gained = after.ratio - point.ratio
        point = after if gained > 0 else point
        if gained <= _STILL * point.ratio:
            break
    inward = point.z @ np.linalg.pinv(point.p, rcond=_SINGULAR)
    outward = (point.y @ np.linalg.pinv(point.q, rcond=_SINGULAR)).T
    projection = inward @ np.linalg.pinv(outward @ inward, rcond=_SINGULAR) @ outward
    return Reduction(point.x, projection, point.ratio)


def _at(matrices: Float[np.ndarray, "count features features"], point: _Point, steps: int) -> _Point:
    """The same reduced matrices with their eigenvectors after some steps of power iteration."""
    x, z, y, p, q = point.x, point.z, point.y, point.p, point.q
    between = alone = 0.0
    for _ in range(steps):
        z, between = _normed(np.einsum("kij,jb,kab->ia", matrices, z, x, optimize=True))
        y, _ = _normed(np.einsum("kij,ia,kab->jb", matrices, y, x, optimize=True))
        p, alone = _normed(np.einsum("kab,bc,kdc->ad", x, p, x, optimize=True))
        q, _ = _normed(np.einsum("kab,ac,kcd->bd", x, q, x, optimize=True))
    return _Point(x, z, y, p, q, between, alone)


def _normed(matrix: np.ndarray) -> tuple[np.ndarray, float]:
    size = float(np.linalg.norm(matrix))
    return (matrix / size if size > 0 else matrix), size


def _goal(matrices: Float[np.ndarray, "count features features"], point: _Point) -> np.ndarray:
    """Where the gradient of the ratio would be zero, were the eigenvectors to stay."""
    toward = np.einsum("ia,kij,jb->kab", point.y, matrices, point.z, optimize=True)
    scale = float((point.q * point.p).sum() * point.alone / ((point.y * point.z).sum() * point.between))
    left, right = (np.linalg.pinv(side, rcond=_SINGULAR) for side in (point.q, point.p))
    return np.asarray(scale * np.einsum("ab,kbc,cd->kad", left, toward, right, optimize=True))


def feature_clusters(
    matrices: Float[np.ndarray, "count features features"], parts: int = 2, seed: int = 0
) -> Int[np.ndarray, " features"]:
    """Groups of features by cluster projections, one after another; the last group is what is left.

    Of a few dimensions the one is taken whose group has the smallest n-cut.

    Raises:
        BadInput: not between 2 and the number of features parts, or see `reduction`.
    """
    size = matrices.shape[1]
    if not 2 <= parts <= size:
        raise BadInput(f"{size} features cannot be put into {parts} groups")
    labels = np.zeros(size, dtype=np.int64)
    left = np.arange(size)
    for part in range(1, parts):
        inside = _cluster(matrices[:, left][:, :, left], parts - part + 1, seed)
        labels[left[inside]] = part
        left = left[~inside]
        if len(left) < 2:
            break
    return labels


def _cluster(
    matrices: Float[np.ndarray, "count features features"], parts: int, seed: int
) -> Bool[np.ndarray, " features"]:
    """Which features one cluster projection keeps."""
    size = matrices.shape[1]
    tried = sorted({min(size - 1, max(1, round(size * share / parts))) for share in (0.6, 1.0, 1.4)})
    kept = [_whole(np.diag(reduction(matrices, dimension, seed).projection)) for dimension in tried]
    energy = (matrices**2).sum(0)
    return min(kept, key=lambda inside: _cost(energy, inside))


def _whole(diagonal: Float[np.ndarray, " features"]) -> Bool[np.ndarray, " features"]:
    """The features that a projection keeps more than half, at least one and not all."""
    inside = diagonal > 0.5
    inside[np.argmax(diagonal)], inside[np.argmin(diagonal)] = True, False
    return inside


def _cost(energy: Float[np.ndarray, "features features"], inside: Bool[np.ndarray, " features"]) -> float:
    """The n-cut of a group of features: the energy between it and the rest, over the energy of each."""
    cut = float(energy[inside][:, ~inside].sum())
    return sum(cut / max(float(energy[side].sum()), 1e-300) for side in (inside, ~inside))
