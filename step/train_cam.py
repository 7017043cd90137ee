"""Train the tag classifier whose class activation maps everything else starts from."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from misc.config import setting
from step.artefacts import CAM_WEIGHTS, CAMS, CLASS_NAMES, PHOTOGRAPHS, PRETRAINED_BACKBONE, TAGS
from step.common.checks import image_problems, problems_of
from step.graph import TrainingStep, Work
from voc12.image_labels import no_classes_problem

if TYPE_CHECKING:
    from torch import Tensor, nn

    from misc.training import Batch, Learning
    from net.cam import CamClassifier
    from step.run import Run
    from voc12.dataloader import ClassificationCrops

logger = logging.getLogger(__name__)


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
        problems = image_problems(run.dataset, run.val_ids)
        if not problems_of(lambda: run.tags):  # else they are told
            problems += no_classes_problem(run.tags, run.train_ids, run.config.train_aug_list)
        return problems

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

        def share_of_loss(network: "nn.Module", batch: "Batch") -> "Tensor":
            return _summed_loss(network, batch) / plan.batch_size

        return Learning(
            classifier,
            optimizer,
            crops,
            plan,
            share_of_loss,
            after_epoch=lambda epoch: _report_validation_loss(
                run, classifier, val_crops, epoch, cam_batch_size
            ),
        )


def _summed_loss(network: "nn.Module", batch: "Batch") -> "Tensor":
    from torch.nn import functional as F

    from misc.transforms import normalize_crops

    scores = network(normalize_crops(batch["image"], batch["box"]))
    return F.multilabel_soft_margin_loss(scores.float(), batch["tags"], reduction="none").sum()


def _report_validation_loss(
    run: "Run", classifier: "CamClassifier", crops: "ClassificationCrops", epoch: int, size: int
) -> None:
    """Log the mean loss over the val list, each image cut at its top left corner."""
    import torch
    from torch.utils.data import DataLoader

    from misc.training import loader_options

    if not len(crops):
        return
    runtime = run.runtime
    classifier.eval()
    draws = runtime.shard([(epoch, index) for index in range(len(crops))])
    loader = DataLoader(
        crops,
        batch_sampler=[draws[i : i + size] for i in range(0, len(draws), size)],
        **loader_options(runtime),
    )
    total = torch.zeros((), device=runtime.device)
    with torch.no_grad():
        for batch in loader:
            moved = {name: value.to(runtime.device) for name, value in batch.items()}
            total += _summed_loss(classifier, moved)
    mean = float(runtime.sum_over_processes(total)) / len(crops)
    logger.info("train_cam: epoch %d, mean loss over val %.4f", epoch, mean)
