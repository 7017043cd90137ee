"""Train the boundary network on the boundary labels, guided by saliency."""

import logging
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from misc.checkpoint import save_weights
from misc.optim import PolySgd
from misc.training import Batch, BatchPlan, Checkpoints, train
from misc.transforms import normalize_crops
from misc.workspace import Record
from net.losses import boundary_loss
from step.context import Context
from step.networks import build_boundary_network
from step.preflight import (
    artefact_problems,
    image_problems,
    saliency_problems,
    weights_problems,
)
from voc12.dataloader import BoundaryCrops

logger = logging.getLogger(__name__)

SETTINGS = (
    "backbone", "bes_backbone", "bes_crop_size", "bes_batch_size", "bes_num_epoches",
    "bes_learning_rate", "bes_weight_decay", "bes_momentum", "saliency", "sal_bg_thres",
    "precision", "seed",
)  # fmt: skip


def preflight(context: Context) -> list[str]:
    """What stands in the way of this step."""
    if context.bes_weights.exists() and not context.config.overwrite:
        return []
    ids = context.train_ids
    problems = image_problems(context.dataset, ids) + saliency_problems(context.dataset, ids)
    are_given = context.boundary_labels.is_plugged_in(ids)
    if are_given or "make_boundary_label" not in context.requested:
        problems += artefact_problems(context, context.boundary_labels, ids, "make_boundary_label")
    if context.config.bes_backbone == "cam" and "train_cam" not in context.requested:
        problems += weights_problems(context.cam_weights, "train_cam")
    return problems


def run(context: Context) -> dict[str, Any] | None:
    """Train the boundary network; None if its weights are there.

    Returns:
        images trained on in this run, and the mean loss of the last epoch.

    Raises:
        UserError: if the weights there were trained with other settings, or training fails.
    """
    weights, config = context.bes_weights, context.config
    if weights.is_foreign():
        logger.info("train_bes: using the weights found at %s", weights.path)
        return None
    backbone = (
        context.cam_weights.state_digest()
        if config.bes_backbone == "cam"
        else context.backbone_digest()
    )
    record = Record(
        config.subset(SETTINGS),
        {
            "images and tags": context.list_digest(context.train_ids),
            "backbone weights": backbone,
            "boundary labels": context.boundary_labels.state_digest(context.train_ids),
            "saliency maps": context.saliency_digest(context.train_ids),
        },
    )
    if not context.runtime.on_main(
        lambda: weights.claim(record, overwrite=config.overwrite, sealed=True)
    ):
        return None
    return _train(context, record)


def _train(context: Context, record: Record) -> dict[str, Any]:
    config, runtime = context.config, context.runtime
    torch.manual_seed(config.seed)
    network = build_boundary_network(context, load=False)
    network.train()
    plan = BatchPlan(
        len(context.train_ids), config.bes_batch_size, config.bes_num_epoches, config.seed
    )
    optimizer = PolySgd(
        network.parameters_to_train(),
        lr=config.bes_learning_rate,
        weight_decay=config.bes_weight_decay,
        momentum=config.bes_momentum,
        max_step=plan.num_steps,
    )
    crops = BoundaryCrops(
        context.dataset,
        context.train_ids,
        context.boundary_labels.path,
        config.bes_crop_size,
        config.sal_bg_thres,
        config.seed,
    )

    def share_of_loss(module: nn.Module, batch: Batch) -> Tensor:
        logits = module(normalize_crops(batch["image"], batch["box"]))
        return boundary_loss(
            logits, batch["codes"], batch.get("saliency"), reduce_count=runtime.sum_over_processes
        ).total

    trained = train(
        runtime,
        network,
        optimizer,
        crops,
        plan,
        share_of_loss,
        Checkpoints(
            context.bes_weights.checkpoint_path,
            config.checkpoint_every,
            {**record.settings, **record.inputs},
        ),
        desc="train_bes",
    )
    if runtime.is_main:
        context.bes_weights.keep(partial(save_weights, network))
    runtime.barrier()
    return {"images": trained.steps * plan.batch_size, "loss": trained.loss}
