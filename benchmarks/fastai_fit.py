"""fastai's part of `benchmarks fastai`: a frozen body, fastai's own head, one cycle.

`python -m benchmarks.fastai_fit RELEASE_DIR PACKS_DIR EPOCHS` prints the accuracy after each epoch as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import fastai
import torch
from fastai.callback import progress, schedule  # noqa: F401 - they give Learner its methods
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.metrics import accuracy
from fastai.torch_core import params, set_seed
from fastai.vision.learner import create_head
from torch import nn

from benchmarks.plain_loop import Pack, released

BATCH = 64  # fastai's default


def main(release: Path, packs: Path, epochs: int) -> None:
    set_seed(0)
    body, transform = released(release)
    width = body.num_features
    body.reset_classifier(0, "")
    train, test = Pack(packs / "train.pack", transform), Pack(packs / "test.pack", transform)
    classes = 1 + max(item.label for item in train.items)
    loaders = DataLoaders.from_dsets(train, test, bs=BATCH, num_workers=2, device=torch.device("cpu"))
    learner = Learner(
        loaders,
        nn.Sequential(body, create_head(width, classes)),
        loss_func=nn.CrossEntropyLoss(),
        metrics=accuracy,
        splitter=lambda model: [params(model[0]), params(model[1])],
        path=packs,
    )
    learner.freeze()
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(epochs)
    found = [float(row[-1]) for row in learner.recorder.values]
    print(json.dumps({"accuracy": found[-1], "accuracies": found, "version": fastai.__version__}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
