"""The baseline that every network for texts must beat: counts of words and of characters, and a linear head.

Word 1- and 2-grams and character 2- to 5-grams are hashed, so that no vocabulary has to be kept in memory or
handed on; weighted by inverse document frequency; and classified by logistic regression: multinomial, or where texts
have any number of labels one for each label against the rest.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from torch import Tensor

from finetuning.engine import runtime, weights
from finetuning.engine.labelling import ANY_CLASSES, ONE_CLASS, Labelling

FILE = "tfidf.safetensors"
# Buckets: far more than the n-grams that occur, so that collisions hardly matter; unused ones are not stored.
_WORD_BUCKETS, _CHARACTER_BUCKETS = 2**20, 2**21
_REGULARIZATIONS = (1.0, 10.0, 100.0)  # scikit-learn's C, chosen on the validation items
_MAX_ITERATIONS = 300
MAX_CHARACTERS = 2_000  # of each text: about what the network reads of it
_WORD = r"(?u)\b\w+\b"  # one letter counts too: scikit-learn's own pattern wants two
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TextCounts:
    """`columns` (V,) are the buckets that occur in training, `idf` (V,) their weights; `weight` (C, V) and `bias`
    (C,) the head's."""

    columns: npt.NDArray[np.int64]
    idf: Floats
    weight: Floats
    bias: Floats

    def logits(self, texts: Sequence[str]) -> Floats:
        """Returns (N, C)."""
        counted = _counts(texts)[:, self.columns]
        rows = normalize(counted.multiply(self.idf).tocsr())
        values: Floats = rows @ self.weight.T + self.bias
        return values

    def save(self, directory: Path) -> None:
        tensors = {
            "columns": torch.from_numpy(self.columns),
            **{name: torch.from_numpy(getattr(self, name)).float() for name in ("idf", "weight", "bias")},
        }
        weights.save_tensors(directory / FILE, tensors)

    @classmethod
    def load(cls, directory: Path) -> TextCounts:
        tensors = weights.load_tensors(directory / FILE)
        return cls(
            columns=tensors["columns"].numpy(),
            **{name: tensors[name].double().numpy() for name in ("idf", "weight", "bias")},
        )


def fit(
    texts: Sequence[str], truth: Tensor, *, training: int, classes: int, labelling: Labelling = ONE_CLASS
) -> TextCounts:
    """Fits to the first `training` texts for the choice of C, on the rest, then to all of them. `truth` is as
    `labelling` has it."""
    counted = _counts(texts)
    columns = np.flatnonzero(np.bincount(counted.indices, minlength=counted.shape[1]))
    transform = TfidfTransformer()  # the counts are logarithmic already
    rows = transform.fit_transform(counted[:, columns])
    head = _label_by_label if labelling.is_multi else _multinomial
    losses = {}
    for regularization in _REGULARIZATIONS:
        runtime.check_stop()
        weight, bias = head(rows[:training], truth[:training], regularization, classes)
        logits = torch.from_numpy(rows[training:] @ weight.T + bias)
        losses[regularization] = float(labelling.loss(logits, truth[training:]))
    runtime.check_stop()
    weight, bias = head(rows, truth, min(losses, key=losses.__getitem__), classes)
    return TextCounts(columns.astype(np.int64), transform.idf_, weight, bias)


def _multinomial(rows: sparse.csr_matrix, labels: Tensor, regularization: float, classes: int) -> tuple[Floats, Floats]:
    """Returns weights (C, V) and biases (C,) for labels (N,)."""
    model = _regression(rows, labels.numpy(), regularization)
    weight = np.zeros((classes, rows.shape[1]))
    bias = np.full(classes, -np.inf)
    # Two classes share one row of weights: the odds of the second.
    both = classes_of_two(model) if len(model.classes_) == 2 else (model.coef_, model.intercept_)
    weight[model.classes_], bias[model.classes_] = both
    bias[np.isinf(bias)] = bias[np.isfinite(bias)].min() - 100.0  # a class without training items is never guessed
    return weight, bias


def _label_by_label(
    rows: sparse.csr_matrix, truth: Tensor, regularization: float, classes: int
) -> tuple[Floats, Floats]:
    """Returns weights (C, V) and biases (C,) for truth (N, C): of each label the odds that a text has it."""
    weight, bias = np.zeros((classes, rows.shape[1])), ANY_CLASSES.prior(truth, classes).numpy()
    for place, shown in enumerate((truth > 0).numpy().T):
        runtime.check_stop()
        if shown.any() and not shown.all():  # else nothing is to be told apart, and the prior stays
            model = _regression(rows, shown, regularization)
            weight[place], bias[place] = model.coef_[0], model.intercept_[0]
    return weight, bias


def classes_of_two(model: LogisticRegression) -> tuple[Floats, Floats]:
    """Returns the weights (2, V) and biases (2,) whose softmax is the model's sigmoid."""
    return np.concatenate([-model.coef_, model.coef_]) / 2, np.concatenate([-model.intercept_, model.intercept_]) / 2


def _regression(rows: sparse.csr_matrix, labels: npt.NDArray[Any], regularization: float) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits of a baseline do not matter
        return LogisticRegression(C=regularization, max_iter=_MAX_ITERATIONS).fit(rows, labels)


def _counts(texts: Sequence[str]) -> sparse.csr_matrix:
    """Returns 1 + log of the counts of each bucket, (N, buckets), words first."""
    cut = [text[:MAX_CHARACTERS] for text in texts]
    settings = {"alternate_sign": False, "norm": None, "dtype": np.float64}
    words = HashingVectorizer(n_features=_WORD_BUCKETS, ngram_range=(1, 2), token_pattern=_WORD, **settings)
    characters = HashingVectorizer(
        n_features=_CHARACTER_BUCKETS, ngram_range=(2, 5), analyzer="char_wb", lowercase=True, **settings
    )
    table = sparse.hstack([words.transform(cut), characters.transform(cut)], format="csr")
    table.data = 1 + np.log(table.data)
    return table
