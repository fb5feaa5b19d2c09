"""Losses of the published recipes, on logits."""

import torch
from torch import Tensor


def tversky_index(
    logits: Tensor, target: Tensor, *, alpha: float, beta: float, smooth: float
) -> Tensor:
    """Give the Tversky index of each slice, 0 to 1.

    Parameters
    ----------
    logits, target
        Shape ``(batch, 1, rows, columns)``; the target is 0 or 1.
    alpha
        Weight of false negatives: lung that the mask leaves out.
    beta
        Weight of false positives.
    smooth
        Pixels added above and below, so that an empty slice has an index.

    References
    ----------
    Salehi et al. 2017, arXiv:1706.05721, with the weights named as Abraham and Khan 2019 do,
    arXiv:1810.07842: alpha at the false negatives.
    """
    probabilities = torch.sigmoid(logits)
    axes = (1, 2, 3)
    hit = (probabilities * target).sum(axes)
    missed = ((1.0 - probabilities) * target).sum(axes)
    invented = (probabilities * (1.0 - target)).sum(axes)
    return (hit + smooth) / (hit + alpha * missed + beta * invented + smooth)


def focal_tversky(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.7,
    beta: float = 0.3,
    gamma: float = 1.3,
    smooth: float = 1.0,
) -> Tensor:
    """Give the mean focal Tversky loss: ``(1 - index) ** (1 / gamma)``.

    A gamma above 1 keeps the gradient alive for slices that are nearly right. Parameters as
    ``tversky_index``.

    References
    ----------
    Abraham and Khan 2019, arXiv:1810.07842, equation 4.
    """
    index = tversky_index(logits, target, alpha=alpha, beta=beta, smooth=smooth)
    return ((1.0 - index).clamp_min(1e-6) ** (1.0 / gamma)).mean()
