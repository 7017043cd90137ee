"""Trainings that are about to begin: what the runner would train, caught before it does."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from misc.training import Learning
from tests.helpers.spies import AllSeen, watch
from tests.helpers.tiny import run

TRAIN = "misc.training.train"


def about_to_train(
    monkeypatch: pytest.MonkeyPatch, root: Path, out_dir: Path, *flags: str
) -> Learning:
    """What the first training of this command line begins with."""
    with monkeypatch.context() as patch:
        seen = watch(patch, [TRAIN])
        with pytest.raises(AllSeen):
            run(root, out_dir, *flags)
    return seen[TRAIN]["learning"]


class Says(nn.Module):
    """In place of a network: says what it was told to, and keeps what it saw."""

    def __init__(self, output: Tensor | list) -> None:
        super().__init__()
        self.output = torch.as_tensor(output)
        self.seen = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return self.output
