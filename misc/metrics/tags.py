"""How well class scores name an image's tags, and what one could do without looking at images."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NEAR_CHANCE = 0.9  # of the loss at chance; a classifier that has learnt is far below


class TagScores(NamedTuple):
    """Scores of a classifier of tags.

    Attributes:
        loss: mean over images and classes of the logistic loss, in nats.
        accuracy: share of the images with tags, 0..1, whose highest class score is of one of their
            tags; NaN where no image has a tag.
    """

    loss: float
    accuracy: float

    def is_chance(self, chance: "TagScores") -> bool:
        """Whether neither the loss nor the accuracy tells these scores from `chance`."""
        # Written so that NaN is no better than chance.
        learnt = self.loss < NEAR_CHANCE * chance.loss or self.accuracy > _halfway(chance.accuracy)
        return not learnt


def _halfway(accuracy: float) -> float:
    return (1 + accuracy) / 2


def chance_level(tags: NDArray[np.floating]) -> TagScores:
    """The best scores that one answer for all images reaches, given their tags (N,C) in {0, 1}.

    The loss is least where each class has its share of the images as its probability; the accuracy
    is greatest where the class that most images show has the highest score.
    """
    share = tags.mean(0, dtype=np.float64)
    surprise = np.zeros_like(share)
    for part in (share, 1 - share):
        surprise -= part * np.log(part, where=part > 0, out=np.zeros_like(part))
    tagged = tags[tags.any(1)]
    accuracy = float(tagged.mean(0, dtype=np.float64).max()) if len(tagged) else float("nan")
    return TagScores(float(surprise.mean()), accuracy)
