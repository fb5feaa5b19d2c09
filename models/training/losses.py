"""Losses of the published recipes, on logits."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from models.errors import TrainingFailed
from models.training.recipe import (
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    FocalTversky,
    Loss,
)

LossFunction = Callable[[Tensor, Tensor], Tensor]


def build_loss(loss: Loss, counts: Sequence[int]) -> LossFunction:
    """Give the loss of a recipe as a function of logits and target.

    Parameters
    ----------
    loss
        What the recipe says.
    counts
        Images of each class in the training data (negative and positive pixels for masks), for the
        losses that weigh classes.

    Returns
    -------
    :
        Takes logits ``(batch, classes)`` or ``(batch, 1)`` with labels ``(batch,)``, or logits and
        masks ``(batch, 1, rows, columns)``; gives the mean loss.

    Raises
    ------
    TrainingFailed
        A class that is to be weighed has no image.
    """
    match loss:
        case CrossEntropy(balanced, smoothing):
            weights = balanced_weights(counts) if balanced else None
            return lambda logits, target: functional.cross_entropy(
                logits, target, weight=_beside(weights, logits), label_smoothing=smoothing
            )
        case BinaryCrossEntropy(balanced):
            ratio = _positive_weight(counts) if balanced else None
            return lambda logits, target: functional.binary_cross_entropy_with_logits(
                logits, target.to(logits.dtype).view_as(logits), pos_weight=_beside(ratio, logits)
            )
        case Focal():
            return lambda logits, target: focal(logits, target, alpha=loss.alpha, gamma=loss.gamma)
        case FocalTversky():
            return lambda logits, target: focal_tversky(
                logits,
                target,
                alpha=loss.alpha,
                beta=loss.beta,
                gamma=loss.gamma,
                smooth=loss.smooth,
            )


def balanced_weights(counts: Sequence[int]) -> Tensor:
    """Give each class the inverse of its share, so that the mean weight over images is 1."""
    if min(counts) < 1:
        raise TrainingFailed(
            f"a class has no training image (images per class: {list(counts)}); "
            "correct the split or switch balanced off"
        )
    known = torch.tensor(counts, dtype=torch.float32)
    return known.sum() / (len(known) * known)


def _positive_weight(counts: Sequence[int]) -> Tensor:
    negative, positive = counts
    if positive < 1:
        raise TrainingFailed("no positive training image; correct the split")
    return torch.tensor(negative / positive)


def _beside(weights: Tensor | None, logits: Tensor) -> Tensor | None:
    return None if weights is None else weights.to(logits.device)


def focal(logits: Tensor, target: Tensor, *, alpha: Sequence[float], gamma: float) -> Tensor:
    """Give the mean focal loss over classes: ``-alpha_y (1 - p_y) ** gamma log(p_y)``.

    Parameters
    ----------
    logits
        Shape ``(batch, classes)``.
    target
        Labels, shape ``(batch,)``.
    alpha
        Weight of each class.
    gamma
        0 is cross entropy; larger values play down images that are already right.

    References
    ----------
    Lin et al. 2017, arXiv:1708.02002, equation 5, with softmax in place of the sigmoid.
    """
    log_probability = functional.log_softmax(logits, dim=1)
    of_target = log_probability.gather(1, target.unsqueeze(1)).squeeze(1)
    weights = torch.tensor(alpha, dtype=logits.dtype, device=logits.device)[target]
    return (-weights * (1.0 - of_target.exp()) ** gamma * of_target).mean()


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

    Alpha weighs the pixels that the mask leaves out, beta those that it invents: 0.7 and 0.3 prefer
    a mask that is too large to one that misses lung. Parameters as ``tversky_index``.

    Two conventions of gamma are in use. The paper writes the exponent ``1 / gamma``, gamma from 1
    to 3; 1.3 is of that range and gives 0.77: the gradient stays alive for slices that are nearly
    right. Implementations that write the exponent ``gamma`` itself use 0.75 for the same effect;
    1.3 would do the opposite there. This is the paper's.

    References
    ----------
    Abraham and Khan 2019, arXiv:1810.07842, equation 4.
    """
    index = tversky_index(logits, target, alpha=alpha, beta=beta, smooth=smooth)
    return ((1.0 - index).clamp_min(1e-6) ** (1.0 / gamma)).mean()
