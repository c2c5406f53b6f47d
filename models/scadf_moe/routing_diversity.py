"""How far apart a network's task routers are: maximum mean discrepancy with a Gaussian kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from models.layers.soft_moe import Routing

# Squared width of the kernel, for squared distances a distribution, which are at most 2: softmaxes of untrained routers
# lie about this far apart, so that the term has a slope from the first step on.
BANDWIDTH = 0.1


def mmd(matrices: Tensor) -> Tensor:
    """Squared MMD between all pairs of m tasks, [m, m], by ``b`` samples each of a matrix [b, m, rows, columns].

    Samples are whole matrices, so that two tasks that use the same slots in another order are far apart. ``rows`` are
    distributions over ``columns``; the squared distance of two matrices is the mean of their rows'. The estimate is the
    biased one, which is never negative and zero for equal samples.
    """
    b, m, rows, _ = matrices.shape
    flat = matrices.transpose(0, 1).flatten(0, 1).flatten(1)  # [m·b, rows·columns]
    norm = flat.square().sum(-1)
    squared = (norm[:, None] + norm - 2 * flat @ flat.T).clamp_min(0) / rows
    kernel = (squared / (-2 * BANDWIDTH)).exp().view(m, b, m, b).mean((1, 3))  # [m, m]
    own = kernel.diagonal()
    return own[:, None] + own - 2 * kernel


def routing_overlap(routing: Routing) -> Tensor:
    """The term of the loss: minus the mean MMD² of all pairs of tasks, of dispatch and of combine matrices.

    Zero where all routers do the same; the further apart, the lower, down to -4.
    """
    m = routing.dispatch.shape[1]
    pairs = torch.triu_indices(m, m, 1)
    apart = mmd(routing.dispatch.mT) + mmd(routing.combine)  # both by their distributions: a slot's, a token's
    return -apart[pairs[0], pairs[1]].mean()
