"""The term of the loss that pushes the tasks' routing matrices apart, in two readings.

- ``written``: the paper's MMD. It compares the distributions of two tasks' matrices over the samples of a batch. It is
  largest when the matrices of each task are the same for all samples, so it also rewards routing that ignores the
  sample.
- ``paired``: the distance of the matrices of two tasks on the same sample, as the mean over the samples. Routing that
  follows the sample earns as much as routing that ignores it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from models.layers.soft_moe import Routing

DiversityKind = Literal["written", "paired"]

# Squared width of the Gaussian kernel. The squared distance of two distributions is at most 2, and that of untrained
# routers is about this width, so the term has a slope from the first step on.
KERNEL_BANDWIDTH = 0.1


def routing_overlap(routing: Routing, kind: DiversityKind) -> Tensor:
    """Minus the mean distance over all pairs of tasks, of dispatch and of combine matrices.

    It is zero if all routers are equal, and falls to -4 as they move apart.
    """
    compare = mmd if kind == "written" else paired_distance
    m = routing.dispatch.shape[1]
    pairs = torch.triu_indices(m, m, 1)
    apart = compare(routing.dispatch.mT) + compare(routing.combine)  # rows are distributions: of a slot, and of a token
    return -apart[pairs[0], pairs[1]].mean()


def mmd(matrices: Tensor) -> Tensor:
    """Squared maximum mean discrepancy with a Gaussian kernel between all pairs of m tasks, [m, m].

    ``matrices`` [b, m, rows, columns] holds ``b`` samples per task; ``rows`` are distributions over ``columns``. A
    sample is a whole matrix, so two tasks that use the same slots in another order are far apart. The squared distance
    of two matrices is the mean over their rows. The estimate is the biased one: never negative, zero for equal samples.
    """
    b, m, rows, _ = matrices.shape
    flat = matrices.transpose(0, 1).flatten(0, 1).flatten(1)  # [m·b, rows·columns]
    norm = flat.square().sum(-1)
    squared = (norm[:, None] + norm - 2 * flat @ flat.T).clamp_min(0) / rows
    kernel = (squared / (-2 * KERNEL_BANDWIDTH)).exp().view(m, b, m, b).mean((1, 3))  # [m, m]
    own = kernel.diagonal()
    return own[:, None] + own - 2 * kernel


def paired_distance(matrices: Tensor) -> Tensor:
    """The mean over the samples of the squared distance of two tasks' matrices in the space of `mmd`'s kernel, [m, m].

    ``matrices`` as for `mmd`. One sample's distance is that MMD of two tasks with this sample alone, 2 - 2 k.
    """
    rows = matrices.shape[2]
    flat = matrices.flatten(2)  # [b, m, rows·columns]
    products = torch.einsum("bmf,bnf->bmn", flat, flat)
    norm = products.diagonal(dim1=1, dim2=2)  # [b, m]
    squared = (norm[:, :, None] + norm[:, None] - 2 * products).clamp_min(0) / rows
    return 2 - 2 * (squared / (-2 * KERNEL_BANDWIDTH)).exp().mean(0)
