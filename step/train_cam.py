"""Train the tag classifier whose class activation maps everything else starts from."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from misc.config import setting
from misc.metrics import TagScores, chance_level
from misc.runtime import read_ahead
from step.artefacts import CAM_WEIGHTS, CAMS, CLASS_NAMES, PHOTOGRAPHS, PRETRAINED_BACKBONE, TAGS
from step.common.checks import problems_of
from step.graph import TrainingStep, Work
from voc12.image_labels import no_classes_problem

if TYPE_CHECKING:
    from torch import Tensor, nn

    from misc.training import Batch, Draw, Learning
    from net.cam import CamClassifier
    from step.run import Run
    from voc12.dataloader import ClassificationCrops

logger = logging.getLogger(__name__)

IMAGES_TO_JUDGE_BY = 500  # training images that tell whether the classifier has learnt


@dataclass(frozen=True)
class Settings:
    """How the classifier is trained."""

    heading: ClassVar[str] = "classifier (train_cam)"

    cam_crop_size: int = setting(512, "crop size in pixels", at_least=1, at_most=10_000)
    cam_resize_long: tuple[float, ...] = setting(
        (320.0, 512.0),
        "the long side is resized to a random length in this range",
        at_least=1,
        at_most=10_000,
    )
    cam_batch_size: int = setting(
        16, "images per step, over all processes", at_least=1, at_most=10**5
    )
    cam_num_epoches: int = setting(
        5, "number of epochs", at_least=1, in_short_help=True, at_most=10**5
    )
    cam_learning_rate: float = setting(
        0.1, "learning rate of the backbone", at_least=0, at_most=100
    )
    cam_classifier_rate: float = setting(
        10.0,
        "learning rate of the classifier as a multiple of the backbone's",
        at_least=0,
        at_most=10_000,
    )
    cam_weight_decay: float = setting(1e-4, "weight decay", at_least=0, at_most=1)
    cam_momentum: float = setting(
        1e-4, "SGD momentum (the reference's, in effect none)", at_least=0, below=1
    )
    cam_train_from: int = setting(
        3,
        "first backbone stage that learns: 0 stem, 1 to 4 layers (from scratch: always 0)",
        at_least=0,
        at_most=5,
    )

    def problems(self) -> list[str]:
        """Settings that contradict each other."""
        bounds = self.cam_resize_long
        if len(bounds) == 2 and 0 < bounds[0] <= bounds[1]:
            return []
        shown = ",".join(f"{bound:g}" for bound in bounds)
        return [f"--cam_resize_long {shown}: must be two numbers LEAST,GREATEST"]


class TrainCam(TrainingStep):
    """Multi-label classification of crops by their images' tags."""

    help = "train the tag classifier"
    reads = (PHOTOGRAPHS, TAGS, CLASS_NAMES, PRETRAINED_BACKBONE)
    writes = CAM_WEIGHTS
    flags = Settings
    few_updates = 60
    batch_flag = "cam_batch_size"
    epochs_flag = "cam_num_epoches"

    def images(self, run: "Run") -> list[str]:
        return run.train_ids

    def why_off(self, run: "Run") -> str:
        """CAMs of somebody else need no classifier."""
        cams = CAMS.made(run)
        if cams.is_foreign and not CAM_WEIGHTS.file(run).exists():
            return f"CAMs were put into {cams.folder.path}"
        return ""

    def problems(self, run: "Run", todo: Sequence[str]) -> list[str]:
        """Bad validation images, and tags that name no class at all."""
        problems = PHOTOGRAPHS.problems(run, run.val_ids)
        if not problems_of(lambda: run.tags):  # else they are told
            problems += no_classes_problem(run.tags, run.train_ids, run.config.train_aug_list)
        return problems

    def describe(self, result: Mapping[str, Any]) -> str:
        """The loss, and how well the classifier names the tags of its own images."""
        told = super().describe(result)
        if "accuracy" not in result:
            return told
        right, chance = (100 * result[name] for name in ("accuracy", "chance_accuracy"))
        told += f", right in {right:.0f} % (chance: {chance:.0f} %)"
        return f"AT CHANCE LEVEL: {told}" if result["is_at_chance"] else told

    def make(
        self,
        work: Work,
        *,
        backbone: str,
        cam_crop_size: int,
        cam_resize_long: tuple[float, ...],
        cam_batch_size: int,
        cam_num_epoches: int,
        cam_learning_rate: float,
        cam_classifier_rate: float,
        cam_weight_decay: float,
        cam_momentum: float,
        cam_train_from: int,
        seed: int,
    ) -> "Learning":
        """The classifier, its crops, and SGD with a higher rate for the last layer."""
        from misc.training import BatchPlan, Learning, PolySgd
        from net.cam import CamClassifier
        from step.common.networks import pretrained_backbone
        from voc12.dataloader import ClassificationCrops

        run = work.run
        from_scratch = run.config.backbone_weights == "none"
        classifier = CamClassifier(
            pretrained_backbone(run, backbone),
            run.dataset.num_classes,
            train_from=0 if from_scratch else cam_train_from,
        ).train()
        plan = BatchPlan(len(work.ids), cam_batch_size, cam_num_epoches, seed)
        backbone_group, classifier_group = classifier.parameter_groups()
        optimizer = PolySgd(
            [
                {"params": backbone_group, "lr": cam_learning_rate},
                {"params": classifier_group, "lr": cam_learning_rate * cam_classifier_rate},
            ],
            lr=cam_learning_rate,
            weight_decay=cam_weight_decay,
            momentum=cam_momentum,
            max_step=plan.num_steps,
        )
        crops = ClassificationCrops(
            run.dataset, work.ids, run.tags, cam_crop_size, cam_resize_long, seed
        )
        val_crops = ClassificationCrops(
            run.dataset, run.val_ids, run.tags, cam_crop_size, None, seed
        )

        notes: dict[str, Any] = {}

        def share_of_loss(network: "nn.Module", batch: "Batch") -> "Tensor":
            scores, tags = _class_scores(network, batch)
            images = run.runtime.sum_over_processes(scores.new_full((), len(scores)))
            return _summed_loss(scores, tags) / images

        def after_epoch(epoch: int) -> None:
            if len(val_crops):
                draws = [(epoch, index) for index in range(len(val_crops))]
                scores = _evaluate(run, classifier, val_crops, draws, cam_batch_size)
                logger.info("train_cam: epoch %d, mean loss over val %.4f", epoch, scores.loss)
            if epoch == cam_num_epoches:
                some = range(0, len(crops), -(-len(crops) // IMAGES_TO_JUDGE_BY))
                draws = [(epoch, index) for index in some]  # crops that it has not seen
                notes.update(
                    _judge(
                        _evaluate(run, classifier, crops, draws, cam_batch_size),
                        chance_level(np.stack([run.tags[work.ids[index]] for index in some])),
                    )
                )

        return Learning(
            classifier, optimizer, crops, plan, share_of_loss, after_epoch=after_epoch, notes=notes
        )


def _judge(found: TagScores, chance: TagScores) -> dict[str, Any]:
    """What the scores tell of a classifier, and a warning if it is at chance level."""
    if found.is_chance(chance):
        logger.warning(
            "train_cam: the classifier is at chance level: it names a class right in %.0f %% of "
            "its own training images, where always naming the same one is right in %.0f %%. Its "
            "CAMs mean little. Train longer with --cam_num_epoches, or on a small dataset with "
            "--preset small; look at the tags, the learning rate (--cam_learning_rate) and the "
            "backbone's weights (--backbone_weights).",
            100 * found.accuracy,
            100 * chance.accuracy,
        )
    return {
        "accuracy": found.accuracy,
        "chance_accuracy": chance.accuracy,
        "chance_loss": chance.loss,
        "is_at_chance": found.is_chance(chance),
    }


def _class_scores(network: "nn.Module", batch: "Batch") -> tuple["Tensor", "Tensor"]:
    """Class scores (B,C) float32 of a batch, and its tags."""
    from misc.transforms import normalize_crops

    scores = network(normalize_crops(batch["image"], batch["box"]))
    return scores.float(), batch["tags"]


def _summed_loss(scores: "Tensor", tags: "Tensor") -> "Tensor":
    from torch.nn import functional as F

    return F.multilabel_soft_margin_loss(scores, tags, reduction="none").sum()


def _evaluate(
    run: "Run",
    classifier: "CamClassifier",
    crops: "ClassificationCrops",
    draws: Sequence["Draw"],
    size: int,
) -> TagScores:
    """Loss and accuracy on some crops, in batches of `size`, over all processes."""
    import torch

    runtime = run.runtime
    classifier.eval()
    share = runtime.shard(draws)
    batches = [share[i : i + size] for i in range(0, len(share), size)]
    sums = torch.zeros(3, device=runtime.device)  # loss, named right, images with tags
    with torch.no_grad():
        for batch in read_ahead(runtime, crops, batch_sampler=batches):
            moved = {
                name: value.to(runtime.device, non_blocking=True) for name, value in batch.items()
            }
            scores, tags = _class_scores(classifier, moved)
            right = tags.gather(1, scores.argmax(1, keepdim=True)).sum()
            sums += torch.stack([_summed_loss(scores, tags), right, tags.any(1).sum()])
    loss, right, tagged = runtime.sum_over_processes(sums).tolist()
    return TagScores(loss / len(draws), right / tagged if tagged else float("nan"))
