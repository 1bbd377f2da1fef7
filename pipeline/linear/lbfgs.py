"""L-BFGS that minimizes convex functions of many classes at once; each evaluation is one pass over the features.

L-BFGS (Nocedal and Wright 2006, algorithm 7.4) whose initial Hessian is computed from second moments of the features
instead of a multiple of the identity: all Hessians here are about I + a X'X, with a number `a` for each class, and X'X
is accumulated in one pass. The functions are sums over rows, so a pass needs one block of rows at a time, and features
larger than memory give the same result as features in memory.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.linear.feature_blocks import FeatureRows

_NUM_PAIRS = 10  # stored pairs of steps and gradient changes
_TOLERANCE = 1e-10  # relative: a function is minimized when a Newton step could lower it by no larger share
_ARMIJO = 1e-4  # sufficient decrease (Armijo): share of the decrease predicted by the slope that a step must bring
_MAX_RANK = 2048  # largest rank of the second moments: their decomposition takes seconds


class ObjectiveValue(NamedTuple):
    """Values and derivatives of G functions of P numbers.

    Attributes:
        value: float64 (G,), the values.
        gradient: float64 (G, P), the gradients.
        curvature: float64, a number for each class: the `a` with which I + a X'X approximates the Hessian there.
    """

    value: Tensor
    gradient: Tensor
    curvature: Tensor


class Minimum(NamedTuple):
    """Result of `minimize`.

    Attributes:
        point: float64 (G, P), where the search ended.
        converged: whether all functions are at their minimum, to within 1e-10 of their value.
        passes: number of evaluations, each a pass over the features.
    """

    point: Tensor
    converged: bool
    passes: int


class SecondMoments:
    """Eigendecomposition of X'X, X being the features with a 1 appended, with which I + a X'X is inverted for any a.

    From 2048 dimensions on, or with no more rows than dimensions, X'X is estimated from at most 2048 evenly spaced rows
    and scaled to all rows: the solver needs no more than an estimate.

    Args:
        rows: the features, M rows of D numbers.
    """

    def __init__(self, rows: FeatureRows) -> None:
        if rows.dimension < _MAX_RANK and len(rows) > rows.dimension:
            moments = torch.zeros(rows.dimension + 1, rows.dimension + 1, dtype=torch.float64)
            for _, block in rows.blocks():
                extended = _append_one(block)
                moments += extended.T @ extended
            values, self._vectors = torch.linalg.eigh(moments)
            self._values = values.clamp(min=0)
            return
        sample = rows.sample(_MAX_RANK)
        extended = _append_one(sample)
        values, vectors = torch.linalg.eigh(extended @ extended.T)
        is_kept = values > values[-1] * 1e-10
        self._vectors = extended.T @ vectors[:, is_kept] / values[is_kept].sqrt()
        self._values = values[is_kept] * (len(rows) / len(sample))

    def solve(self, gradient: Tensor, curvature: Tensor) -> Tensor:
        """Multiplies each row of `gradient`, (K, D + 1), by (I + a X'X)^-1, a being its number of `curvature`, (K,)."""
        scaled = curvature[:, None] * self._values
        solved: Tensor = gradient - ((gradient @ self._vectors) * (scaled / (1 + scaled))) @ self._vectors.T
        return solved


def minimize(
    evaluate: Callable[[Tensor, Tensor], ObjectiveValue],
    start: Tensor,
    moments: SecondMoments,
    max_passes: int = 500,
) -> Minimum:
    """Minimizes G convex functions of P numbers at once; they share the passes and nothing else.

    Args:
        evaluate: maps points, float64 (g, P), and the numbers of their functions, int64 (g,), to values, in one pass.
        start: float64 (G, P), the starting points; P is D + 1 for each class that a function has weights for.
        moments: second moments of the features.
        max_passes: maximum number of evaluations.
    """
    state = _LBFGSState(evaluate, start.clone(), moments)
    passes = 1
    while len(state.active) and passes < max_passes:
        state.step()
        passes += 1
    return Minimum(state.point, not len(state.active), passes)


class _LBFGSState:
    """State of the G searches; the `active` ones continue, each with a direction and the next step length to try."""

    def __init__(
        self, evaluate: Callable[[Tensor, Tensor], ObjectiveValue], point: Tensor, moments: SecondMoments
    ) -> None:
        count, size = point.shape
        self._evaluate, self._moments = evaluate, moments
        self.point = point
        self.active = torch.arange(count)
        self._value, self._gradient, self._curvature = evaluate(point, self.active)
        self._curvature = self._curvature.reshape(count, -1)
        self._steps = torch.zeros(_NUM_PAIRS, count, size, dtype=torch.float64)
        self._changes = torch.zeros_like(self._steps)
        self._rho = torch.zeros(_NUM_PAIRS, count, dtype=torch.float64)  # 0 where no pair is stored yet
        self._direction = torch.zeros_like(point)
        self._slope = torch.zeros(count, dtype=torch.float64)
        self._length = torch.ones(count, dtype=torch.float64)
        self._update_directions(self.active)
        self.active = self.active[~torch.isin(self.active, self._converged)]

    def step(self) -> None:
        """One pass: every active search tries a step, and takes it or tries a shorter step in the next pass."""
        active = self.active
        length = self._length[active]
        trial = self.point[active] + length[:, None] * self._direction[active]
        evaluated = self._evaluate(trial, active)
        rise = evaluated.value - self._value[active]
        predicted = length * self._slope[active]
        # Close to the minimum the decrease is lost in rounding: the slope at the new point is tested instead.
        is_flat = rise.abs() <= 1e-13 * self._value[active].abs()
        slope = (evaluated.gradient * self._direction[active]).sum(1)
        is_slope_reduced = slope.abs() <= 0.9 * self._slope[active].abs()
        is_accepted = (rise <= _ARMIJO * predicted) | (is_flat & is_slope_reduced)
        self._store_pairs(active[is_accepted], trial[is_accepted], evaluated, is_accepted)
        # The minimum of the interpolating parabola, within bounds (Nocedal and Wright 2006, section 3.5).
        shorter = (-predicted / (2 * (rise - predicted)).clamp(min=1e-300)).clamp(0.1, 0.5)
        self._length[active[~is_accepted]] = (length * shorter)[~is_accepted]
        is_stuck = self._length[active] < 1e-12
        self._update_directions(active[is_accepted])
        is_done = torch.isin(active, self._converged) | (is_stuck & ~is_accepted)
        self.active = active[~is_done]

    def _store_pairs(self, indices: Tensor, point: Tensor, evaluated: ObjectiveValue, is_accepted: Tensor) -> None:
        gradient = evaluated.gradient[is_accepted]
        step, change = point - self.point[indices], gradient - self._gradient[indices]
        for memory, newest in ((self._steps, step), (self._changes, change)):
            memory[:-1, indices] = memory[1:, indices].clone()
            memory[-1, indices] = newest
        self._rho[:-1, indices] = self._rho[1:, indices].clone()
        product = (step * change).sum(1)
        self._rho[-1, indices] = torch.where(product > 0, 1 / product, torch.zeros_like(product))
        self.point[indices], self._gradient[indices], self._value[indices] = (
            point,
            gradient,
            evaluated.value[is_accepted],
        )
        self._curvature[indices] = evaluated.curvature.reshape(len(is_accepted), -1)[is_accepted]

    def _update_directions(self, indices: Tensor) -> None:
        """Sets new directions (two-loop recursion) and full step lengths; `_converged`: searches that converged."""
        gradient = self._gradient[indices]
        q = gradient.clone()
        weights = []
        for steps, changes, rho in zip(self._steps.flip(0), self._changes.flip(0), self._rho.flip(0), strict=True):
            weight = rho[indices] * (steps[indices] * q).sum(1)
            q -= weight[:, None] * changes[indices]
            weights.append(weight)
        classes = self._curvature.shape[1]
        shape = (len(indices) * classes, q.shape[1] // classes)
        r = self._moments.solve(q.reshape(shape), self._curvature[indices].reshape(-1)).reshape(q.shape)
        for steps, changes, rho in zip(self._steps, self._changes, self._rho, strict=True):
            weight = weights.pop() - rho[indices] * (changes[indices] * r).sum(1)
            r += weight[:, None] * steps[indices]
        self._direction[indices] = -r
        self._slope[indices] = -(gradient * r).sum(1)
        self._length[indices] = 1.0
        self._converged = indices[-self._slope[indices] <= 2 * _TOLERANCE * self._value[indices].clamp(min=1e-12)]


def _append_one(block: Tensor) -> Tensor:
    """Appends a 1 to each row: float64 (B, D + 1)."""
    return torch.cat([block.double(), torch.ones(len(block), 1, dtype=torch.float64)], dim=1)
