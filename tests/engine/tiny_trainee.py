"""The smallest thing that the training loop can train: two layers, and points that they can learn to tell apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from finetuning.engine import loop, strategies
from finetuning.engine.checkpoints import Checkpoints
from finetuning.engine.events import EventWriter
from finetuning.engine.hyper import Hyper, Strategy
from finetuning.engine.strategies import Plan
from finetuning.engine.trainee import Validation

CPU = torch.device("cpu")
CLASSES, WIDTH = 4, 8


class TinyTrainee:
    norm_min_batch = 0

    def __init__(self, hyper: Hyper, *, items: int = 320, device: torch.device = CPU) -> None:
        draw = torch.Generator().manual_seed(5)
        centers = 2 * torch.randn(CLASSES, WIDTH, generator=draw)
        self.labels = torch.randint(CLASSES, (items,), generator=draw)
        self.points = centers[self.labels] + torch.randn(items, WIDTH, generator=draw)
        self.hyper, self.items, self.device = hyper, items, device
        self.steps = items // hyper.batch_size
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Linear(WIDTH, 16), nn.BatchNorm1d(16), nn.Tanh())
        self.module = nn.Sequential(self.body, nn.Dropout(0.1), nn.Linear(16, CLASSES)).to(device)

    @property
    def plan(self) -> Plan:
        stages: strategies.Stages = [("body", [self.body]), ("head", [self.module[2]])]
        return strategies.plan(self.module, stages, Strategy.FULL, self.hyper, fresh_head=True)

    def batches(self, epoch: int, *, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(self.items, generator=torch.Generator().manual_seed(epoch))
        for positions in order.split(self.hyper.batch_size)[start : self.steps]:
            yield self.points[positions], self.labels[positions]

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        points, labels = (part.to(self.device) for part in batch)
        return functional.cross_entropy(self.module(points).float(), labels)

    def weight(self, batch: tuple[Tensor, Tensor]) -> float:
        return float(len(batch[1]))

    @torch.inference_mode()
    def validate(self, module: nn.Module) -> Validation:
        module.eval()
        logits = module(self.points.to(self.device)).float().cpu()
        loss = float(functional.cross_entropy(logits, self.labels))
        return Validation(loss, loss, {"accuracy": float((logits.argmax(1) == self.labels).float().mean())})


def fitted(trainee: TinyTrainee, run_dir: Path) -> loop.Fitted:
    run_dir.mkdir(exist_ok=True)
    with EventWriter(run_dir / "events.jsonl") as events:
        return loop.fit(
            trainee,
            trainee.plan,
            trainee.hyper,
            device=trainee.device,
            events=events,
            checkpoints=Checkpoints(run_dir / "checkpoints", identity="tiny"),
            keep_initial=False,
        )
