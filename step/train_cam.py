"""Train the tag classifier whose class activation maps everything else starts from."""

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from misc.checkpoint import save_weights
from misc.optim import PolySgd
from misc.training import Batch, BatchPlan, Checkpoints, loader_options, train
from misc.transforms import normalize_crops
from misc.workspace import Record
from net.cam import CamClassifier
from step.context import Context
from step.networks import build_classifier
from step.preflight import image_problems, tag_problems
from voc12.dataloader import ClassificationCrops

logger = logging.getLogger(__name__)

SETTINGS = (
    "backbone", "cam_crop_size", "cam_resize_long", "cam_batch_size", "cam_num_epoches",
    "cam_learning_rate", "cam_classifier_rate", "cam_weight_decay", "cam_momentum",
    "cam_train_from", "precision", "seed",
)  # fmt: skip


def preflight(context: Context) -> list[str]:
    """What stands in the way of this step."""
    if is_needless(context) or (context.cam_weights.exists() and not context.config.overwrite):
        return []
    ids = [*context.train_ids, *context.val_ids_if_any()]
    return image_problems(context.dataset, ids) + tag_problems(context)


def is_needless(context: Context) -> bool:
    """True if every CAM is there already, or weights were plugged in."""
    if context.cam_weights.is_foreign():
        return True
    all_there = not context.cams_without_file(context.cam_ids)
    return all_there and (context.cams_are_plugged_in() or not context.cam_weights.exists())


def run(context: Context) -> dict[str, Any] | None:
    """Train the classifier; None if its weights are there or not needed.

    Returns:
        images trained on in this run, and the mean loss of the last epoch.

    Raises:
        UserError: if the weights there were trained with other settings, or training fails.
    """
    weights = context.cam_weights
    if is_needless(context):
        logger.info("train_cam: CAMs or weights are plugged in, nothing to train")
        return None
    record = Record(
        context.config.subset(SETTINGS),
        {
            "images and tags": context.list_digest(context.train_ids),
            "backbone weights": context.backbone_digest(),
        },
    )
    if not context.runtime.on_main(
        lambda: weights.claim(record, overwrite=context.config.overwrite)
    ):
        return None
    return _train(context, record)


def _train(context: Context, record: Record) -> dict[str, Any]:
    config, runtime = context.config, context.runtime
    torch.manual_seed(config.seed)
    classifier = build_classifier(context, load=False)
    classifier.train()
    plan = BatchPlan(
        len(context.train_ids), config.cam_batch_size, config.cam_num_epoches, config.seed
    )
    backbone_group, classifier_group = classifier.parameter_groups()
    optimizer = PolySgd(
        [
            {"params": backbone_group, "lr": config.cam_learning_rate},
            {
                "params": classifier_group,
                "lr": config.cam_learning_rate * config.cam_classifier_rate,
            },
        ],
        lr=config.cam_learning_rate,
        weight_decay=config.cam_weight_decay,
        momentum=config.cam_momentum,
        max_step=plan.num_steps,
    )
    crops = ClassificationCrops(
        context.dataset,
        context.train_ids,
        context.tags,
        config.cam_crop_size,
        config.cam_resize_long,
        config.seed,
    )

    def share_of_loss(network: nn.Module, batch: Batch) -> Tensor:
        return _summed_loss(network, batch) / plan.batch_size

    trained = train(
        runtime,
        classifier,
        optimizer,
        crops,
        plan,
        share_of_loss,
        Checkpoints(
            context.cam_weights.checkpoint_path,
            config.checkpoint_every,
            {**record.settings, **record.inputs},
        ),
        desc="train_cam",
        after_epoch=lambda epoch: _report_validation_loss(context, classifier, epoch),
    )
    if runtime.is_main:
        save_weights(classifier, context.cam_weights.path)
        context.cam_weights.checkpoint_path.unlink(missing_ok=True)
    runtime.barrier()
    return {"images": trained.steps * plan.batch_size, "loss": trained.loss}


def _summed_loss(network: nn.Module, batch: Batch) -> Tensor:
    scores = network(normalize_crops(batch["image"], batch["box"]))
    return F.multilabel_soft_margin_loss(scores.float(), batch["tags"], reduction="none").sum()


@torch.no_grad()
def _report_validation_loss(context: Context, classifier: CamClassifier, epoch: int) -> None:
    """Log the mean loss over the val list, each image cut at its top left corner."""
    ids = context.val_ids_if_any()
    if not ids:
        return
    config, runtime = context.config, context.runtime
    classifier.eval()
    crops = ClassificationCrops(
        context.dataset, ids, context.tags, config.cam_crop_size, None, config.seed
    )
    draws = runtime.shard([(epoch, index) for index in range(len(ids))])
    size = config.cam_batch_size
    loader = DataLoader(
        crops,
        batch_sampler=[draws[i : i + size] for i in range(0, len(draws), size)],
        **loader_options(runtime),
    )
    total = torch.zeros((), device=runtime.device)
    for batch in loader:
        moved = {name: value.to(runtime.device) for name, value in batch.items()}
        total += _summed_loss(classifier, moved)
    mean = float(runtime.sum_over_processes(total)) / len(ids)
    logger.info("train_cam: epoch %d, mean loss over val %.4f", epoch, mean)
