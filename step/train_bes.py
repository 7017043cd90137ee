"""Train the boundary network on the boundary labels, guided by saliency."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from misc.config import Config, setting
from step.artefacts import (
    BES_WEIGHTS,
    BOUNDARY_LABELS,
    CAM_WEIGHTS,
    PHOTOGRAPHS,
    PRETRAINED_BACKBONE,
    SALIENCY_MAPS,
    has_walk,
)
from step.graph import Source, TrainingStep, Work

if TYPE_CHECKING:
    from torch import Tensor, nn

    from misc.training import Batch, Learning
    from step.run import Run


@dataclass(frozen=True)
class Settings:
    """How the boundary network is trained."""

    heading: ClassVar[str] = "boundary network (train_bes)"

    bes_backbone: str = setting(
        "pretrained",
        "pretrained: --backbone with --backbone_weights; cam: the classifier's",
        ("pretrained", "cam"),
    )
    bes_crop_size: int = setting(512, "crop size in pixels", at_least=1, at_most=10_000)
    bes_batch_size: int = setting(
        16, "images per step, over all processes", at_least=1, at_most=10**5
    )
    bes_num_epoches: int = setting(
        3, "number of epochs", at_least=1, in_short_help=True, at_most=10**5
    )
    bes_learning_rate: float = setting(0.1, "learning rate", at_least=0, at_most=100)
    bes_weight_decay: float = setting(1e-4, "weight decay", at_least=0, at_most=1)
    bes_momentum: float = setting(
        1e-4, "SGD momentum (the reference's, in effect none)", at_least=0, below=1
    )


class TrainBes(TrainingStep):
    """Side branches on a frozen backbone, taught by the boundary labels."""

    help = "train the boundary network"
    writes = BES_WEIGHTS
    flags = Settings
    few_updates = 40
    batch_flag = "bes_batch_size"
    epochs_flag = "bes_num_epoches"

    def runs_unasked(self, config: Config) -> bool:
        return has_walk(config)

    def images(self, run: "Run") -> list[str]:
        return run.train_ids

    def sources(self, run: "Run") -> tuple[Source, ...]:
        """Labels, saliency, and what the backbone comes from."""
        is_classifiers = run.setting("bes_backbone") == "cam"
        backbone = CAM_WEIGHTS if is_classifiers else PRETRAINED_BACKBONE
        return PHOTOGRAPHS, backbone, BOUNDARY_LABELS, SALIENCY_MAPS

    def make(
        self,
        work: Work,
        *,
        backbone: str,
        bes_backbone: str,
        bes_crop_size: int,
        bes_batch_size: int,
        bes_num_epoches: int,
        bes_learning_rate: float,
        bes_weight_decay: float,
        bes_momentum: float,
        sal_bg_thres: float,
        seed: int,
    ) -> "Learning":
        """The boundary network, its crops, and SGD over its side branches."""
        from misc.training import BatchPlan, Learning, PolySgd
        from misc.transforms import normalize_crops
        from net.boundary import BoundaryNetwork
        from net.losses import boundary_loss
        from step.common.networks import pretrained_backbone, trained_classifier
        from voc12.dataloader import BoundaryCrops

        run = work.run
        if bes_backbone == "cam":
            features = trained_classifier(run, backbone).backbone
        else:
            features = pretrained_backbone(run, backbone)
        network = BoundaryNetwork(features).train()
        plan = BatchPlan(len(work.ids), bes_batch_size, bes_num_epoches, seed)
        optimizer = PolySgd(
            network.parameters_to_train(),
            lr=bes_learning_rate,
            weight_decay=bes_weight_decay,
            momentum=bes_momentum,
            max_step=plan.num_steps,
        )
        labels = BOUNDARY_LABELS.folder(run)
        crops = BoundaryCrops(run.dataset, work.ids, labels.file, bes_crop_size, sal_bg_thres, seed)

        def share_of_loss(module: "nn.Module", batch: "Batch") -> "Tensor":
            logits = module(normalize_crops(batch["image"], batch["box"]))
            return boundary_loss(
                logits,
                batch["codes"],
                batch.get("saliency"),
                reduce_count=run.runtime.sum_over_processes,
            ).total

        return Learning(network, optimizer, crops, plan, share_of_loss)
