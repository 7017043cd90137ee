"""Train the tag classifier whose class activation maps everything else starts from."""

import logging
from functools import partial
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
from step.preflight import image_problems, problems_of, tag_problems
from voc12.dataloader import ClassificationCrops

logger = logging.getLogger(__name__)

SETTINGS = (
    "backbone", "cam_crop_size", "cam_resize_long", "cam_batch_size", "cam_num_epoches",
    "cam_learning_rate", "cam_classifier_rate", "cam_weight_decay", "cam_momentum",
    "cam_train_from", "precision", "seed",
)  # fmt: skip


def preflight(context: Context) -> list[str]:
    """What stands in the way of this step."""
    weights = context.cam_weights
    problems = problems_of(lambda: demand_settings_of_cams(context))
    if is_needless(context):
        wanted_by = _weights_wanted_by(context)
        if wanted_by and not weights.exists():
            flags = " and ".join(wanted_by)
            problems.append(
                f"For {flags} the weights of a classifier are needed, but none is trained where "
                f"CAMs were put into {context.cams.folder}. Name its weights with {weights.flag}, "
                f"or leave out {flags}."
            )
        return problems
    if weights.exists() and not context.config.overwrite:
        return problems
    ids = [*context.train_ids, *context.val_ids_if_any()]
    return problems + image_problems(context.dataset, ids) + tag_problems(context)


def is_needless(context: Context) -> bool:
    """True if weights or all CAMs were plugged in, or ours are there and ask for no new weights."""
    weights = context.cam_weights
    if weights.is_foreign():
        return True
    if context.cams_without_file(context.cam_ids):
        return False
    if context.cams_are_plugged_in():
        return True
    is_redone = context.config.overwrite or weights.is_begun()
    return not (weights.exists() or is_redone or _weights_wanted_by(context))


def _weights_wanted_by(context: Context) -> list[str]:
    """The flags by which this run trains other networks from the classifier."""
    config, bes_weights, wanted_by = context.config, context.bes_weights, []
    trains_bes = not bes_weights.exists() or (config.overwrite and not bes_weights.is_foreign())
    if config.bes_backbone == "cam" and "train_bes" in context.requested and trains_bes:
        wanted_by.append("--bes_backbone cam")
    if config.seg_init == "cam" and "train_seg" in context.requested:
        wanted_by.append("--seg_init cam")
    return wanted_by


def demand_settings_of_cams(context: Context) -> None:
    """Refuse to take our CAMs for this run's if weights trained otherwise, now gone, made them.

    Raises:
        UserError: naming each setting that differs.
    """
    weights, config = context.cam_weights, context.config
    if config.overwrite or weights.exists() or weights.is_begun():
        return
    cams = Record.read(context.cams.record_path)
    if cams is not None and cams.trained_with is not None:
        now, then = Record(config.subset(SETTINGS), {}), Record(cams.trained_with, {})
        now.demand_equal(then, f"What {context.cams.folder} holds", context.remedy_of_cams)


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
        lambda: weights.claim(record, overwrite=context.config.overwrite, sealed=True)
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
        _make_optimizer(context, classifier, plan.num_steps),
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
        context.cam_weights.keep(partial(save_weights, classifier))
    runtime.barrier()
    return {"images": trained.steps * plan.batch_size, "loss": trained.loss}


def _make_optimizer(context: Context, classifier: CamClassifier, num_steps: int) -> PolySgd:
    """Poly SGD whose rate is higher for the classifier than for the backbone."""
    config, rate = context.config, context.config.cam_learning_rate
    backbone_group, classifier_group = classifier.parameter_groups()
    return PolySgd(
        [
            {"params": backbone_group, "lr": rate},
            {"params": classifier_group, "lr": rate * config.cam_classifier_rate},
        ],
        lr=rate,
        weight_decay=config.cam_weight_decay,
        momentum=config.cam_momentum,
        max_step=num_steps,
    )


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
