"""Losses of classifiers and of pixel-wise classifiers. Every function returns a mean over items, in nats
unless it says otherwise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from finetuning.engine.hyper import Hyper, Loss

FOCAL_GAMMA = 2.0  # Lin et al. 2017, arXiv 1708.02002, section 5
BALANCED_BETA = 0.999  # Cui et al. 2019, arXiv 1901.05555: effective number of samples
MAX_POSITIVE_WEIGHT = 100.0  # beyond it a handful of items would decide every step
ADJUSTMENT = 1.0  # tau of Menon et al. 2021, arXiv 2007.07314
Criterion = Callable[[Tensor, Tensor], Tensor]


def classification(hyper: Hyper, class_counts: Tensor) -> Criterion:
    """Returns loss(logits (N, C), labels (N,)). `class_counts` (C,) are those of the training items."""
    weights = class_weights(hyper.loss, class_counts)
    prior = (class_counts / class_counts.sum()).clamp(min=1e-12).log()

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        logits = logits.float()
        if hyper.loss is Loss.LOGIT_ADJUSTED:
            logits = logits + ADJUSTMENT * prior.to(logits.device)
        if hyper.loss is Loss.FOCAL:
            return focal(logits, labels)
        if hyper.loss is Loss.BINARY:
            shown = functional.one_hot(labels, logits.shape[1]).float()
            return binary(logits, shown, smoothing=hyper.label_smoothing)
        return functional.cross_entropy(
            logits,
            labels,
            weight=None if weights is None else weights.to(logits.device),
            label_smoothing=hyper.label_smoothing,
        )

    return loss


def label_sets(hyper: Hyper, class_counts: Tensor, items: int) -> Criterion:
    """Returns loss(logits (N, C), truth (N, C) of 0 and 1) of items that show any number of classes. `class_counts`
    (C,) are those of the training `items`."""
    weights = positive_weights(class_counts, items) if hyper.loss is Loss.BINARY_WEIGHTED else None

    def loss(logits: Tensor, truth: Tensor) -> Tensor:
        own = None if weights is None else weights.to(logits.device)
        return binary(logits.float(), truth, smoothing=hyper.label_smoothing, positive_weights=own)

    return loss


def binary(logits: Tensor, truth: Tensor, *, smoothing: float = 0.0, positive_weights: Tensor | None = None) -> Tensor:
    """Returns the binary cross-entropy of logits (N, C), summed over the classes of an item and averaged over the
    items: the negative log-likelihood of its label set. `smoothing` moves the truth towards a half."""
    wanted = truth * (1 - smoothing) + smoothing / 2
    total = functional.binary_cross_entropy_with_logits(
        logits, wanted.to(logits.dtype), pos_weight=positive_weights, reduction="sum"
    )
    return total / len(logits)


def positive_weights(class_counts: Tensor, items: int) -> Tensor:
    """Returns (C,) how many items do not show a class for each that does, 1 to MAX_POSITIVE_WEIGHT."""
    shown = class_counts.float().clamp(min=1)
    return ((items - shown) / shown).clamp(1, MAX_POSITIVE_WEIGHT)


def class_weights(loss: Loss, class_counts: Tensor) -> Tensor | None:
    """Returns weights (C,) of mean 1 over the training items, or None: inverse square root of the frequency
    (`weighted`), or inverse effective number (`class_balanced`, Cui et al., equation 3)."""
    counts = class_counts.float().clamp(min=1)
    if loss is Loss.WEIGHTED:
        raw = counts.rsqrt()
    elif loss is Loss.CLASS_BALANCED:
        raw = (1 - BALANCED_BETA) / (1 - BALANCED_BETA**counts)
    else:
        return None
    return raw * counts.sum() / (raw * counts).sum()


def weight_of(labels: Tensor, class_weights: Tensor | None, *, ignore_index: int = -100) -> float:
    """Returns what a mean loss over `labels` (any shape) divides by: how many of them count, or their weights."""
    counted = labels[labels != ignore_index]
    return float(counted.numel()) if class_weights is None else float(class_weights[counted.long()].sum())


def focal(logits: Tensor, labels: Tensor, *, ignore_index: int = -100) -> Tensor:
    """Returns the mean of (1 - p)^gamma * -log p of the true class (Lin et al., equation 4)."""
    losses = functional.cross_entropy(logits, labels, reduction="none", ignore_index=ignore_index)
    focused = (1 - (-losses).exp()) ** FOCAL_GAMMA * losses
    counted = labels != ignore_index
    return focused[counted].mean() if counted.any() else focused.sum()


def segmentation(loss_kind: Loss, pixel_counts: Tensor, *, ignore_index: int) -> Criterion:
    """Returns loss(logits (N, C, H, W), classes (N, H, W)); pixels of `ignore_index` do not count.
    `pixel_counts` (C,) are those of the training items."""
    weights = class_weights(loss_kind, pixel_counts)
    prior = (pixel_counts / pixel_counts.sum()).clamp(min=1e-12).log()[:, None, None]

    def loss(logits: Tensor, classes: Tensor) -> Tensor:
        logits = logits.float()
        match loss_kind:
            case Loss.FOCAL:
                return focal(logits, classes, ignore_index=ignore_index)
            case Loss.LOVASZ:
                return lovasz_softmax(logits.softmax(1), classes, ignore_index=ignore_index)
            case Loss.CROSS_ENTROPY_DICE:
                logs = logits.log_softmax(1)  # once for both
                entropy = functional.nll_loss(logs, classes, ignore_index=ignore_index)
                return entropy + dice(logs.exp(), classes, ignore_index=ignore_index)
            case Loss.LOGIT_ADJUSTED:
                adjusted = logits + ADJUSTMENT * prior.to(logits.device)
                return functional.cross_entropy(adjusted, classes, ignore_index=ignore_index)
            case _:
                weight = None if weights is None else weights.to(logits.device)
                return functional.cross_entropy(logits, classes, weight=weight, ignore_index=ignore_index)

    return loss


def dice(shares: Tensor, classes: Tensor, *, ignore_index: int) -> Tensor:
    """Returns 1 - mean soft Dice (0 to 1) over the classes that occur in the batch (Milletari et al. 2016).
    `shares` (N, C, H, W) are probabilities."""
    counted = (classes != ignore_index).flatten()
    # By index, not by one-hot masks: those of all classes together cost more than the network's head.
    labels = classes.flatten()[counted]
    own = shares.gather(1, classes.where(classes != ignore_index, 0)[:, None]).flatten()[counted]
    overlap = shares.new_zeros(shares.shape[1]).index_add(0, labels, own)
    truth = torch.bincount(labels, minlength=shares.shape[1])
    total = truth + torch.einsum("nchw,nhw->c", shares, counted.view_as(classes).to(shares.dtype))
    present = truth > 0
    return 1 - (2 * overlap[present] / total[present].clamp(min=1e-6)).mean() if present.any() else shares.sum() * 0


def lovasz_softmax(shares: Tensor, classes: Tensor, *, ignore_index: int) -> Tensor:
    """Returns the Lovász-Softmax loss (0 to 1), averaged over the classes that occur in the batch (Berman et
    al. 2018, arXiv 1705.08790, equation 11). `shares` (N, C, H, W) are probabilities."""
    counted = classes != ignore_index
    flat, labels = shares.movedim(1, -1)[counted], classes[counted]
    losses = []
    for position in labels.unique().tolist():
        truth = (labels == position).to(flat.dtype)
        errors, order = (truth - flat[:, position]).abs().sort(descending=True)
        losses.append(torch.dot(errors, _lovasz_gradient(truth[order])))
    return torch.stack(losses).mean() if losses else shares.sum() * 0


def _lovasz_gradient(truth: Tensor) -> Tensor:
    """Returns the gradient of the Lovász extension of the Jaccard loss for sorted errors (algorithm 1)."""
    union = truth.sum() + (1 - truth).cumsum(0)
    jaccard = 1 - (truth.sum() - truth.cumsum(0)) / union
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
