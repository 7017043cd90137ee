"""Train DeepLab-v2 on pseudo masks, or on the exact ones for the upper bound."""

import logging
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from misc.checkpoint import save_weights
from misc.metrics import ConfusionMatrix
from misc.optim import PolySgd
from misc.training import Batch, BatchPlan, Checkpoints, train
from misc.transforms import normalize_crops
from misc.workspace import Record, digest
from net.backbone import fetch_imagenet_weights
from net.deeplab_v2 import DeepLabV2, MultiScale, stretch
from net.segmentation_init import FLAG, initialise
from net.segmentation_losses import segmentation_loss
from step.context import Context
from step.networks import build_segmentation_network
from step.predict import predict_classes
from step.preflight import image_problems, map_problems, mask_problems, problems_of
from step.segmentation import (
    Notes,
    Training,
    describe_labels,
    init_digest,
    init_path,
    init_problems,
    label_digest,
    label_paths,
    trainings,
)
from voc12.files import read_mask
from voc12.segmentation_crops import SegmentationCrops

logger = logging.getLogger(__name__)

SETTINGS = (
    "seg_backbone", "seg_iters", "seg_batch_size", "seg_accumulation", "seg_crop", "seg_rescale",
    "seg_pyramid", "seg_learning_rate", "seg_weight_decay", "seg_momentum", "seg_balanced",
    "precision",
)  # fmt: skip
ASPP_WEIGHT_RATE, ASPP_BIAS_RATE = 10, 20
VALIDATION_FLAGS = "--val_list, or pass --seg_val_every 0"
UPDATES_A_RATE = 10  # updates between changes of the learning rate


def preflight(context: Context) -> list[str]:
    """What stands in the way of this step."""
    config, ids = context.config, context.train_ids
    if not config.overwrite and all(each.weights.exists() for each in trainings(context)):
        return []
    problems = image_problems(context.dataset, ids)
    for training in trainings(context):
        if not training.weights.exists():
            problems += problems_of(training.demand_room_for_best)
    problems += init_problems(context)
    if config.seg_label_dir == "pseudo" and "make_sem_seg" in context.requested:
        made = set(context.infer_ids)
        ids = [image_id for image_id in ids if image_id not in made]
    problems += problems_of(lambda: label_paths(context, ids)) or map_problems(
        context.dataset, label_paths(context, ids), "Training mask", "Name another --seg_label_dir."
    )
    if config.seg_val_every:
        val_ids = context.val_ids_if_any()
        problems += image_problems(context.dataset, val_ids)
        problems += mask_problems(context.dataset, val_ids, VALIDATION_FLAGS)
    return problems


def run(context: Context) -> dict[str, Any] | None:
    """Train the network once for each seed; None if all weights are there.

    Returns:
        images trained on in this run, the mean loss of the last epoch, what it started from.

    Raises:
        UserError: if weights there were trained with other settings, or a training fails.
    """
    done = [_train_once(context, training) for training in trainings(context)]
    results = [result for result in done if result is not None]
    if not results:
        return None
    return {
        "images": sum(result["images"] for result in results),
        "loss": float(np.mean([result["loss"] for result in results])),
        "initialisation": results[0]["initialisation"],
        "labels": describe_labels(context),
        "seeds": [result["seed"] for result in results],
    }


def _train_once(context: Context, training: Training) -> dict[str, Any] | None:
    weights, overwrite = training.weights, context.config.overwrite
    if weights.is_foreign():
        logger.info("train_seg: using the weights found at %s", weights.path)
        return None
    paths = label_paths(context, context.train_ids)
    record = Record(
        {**context.config.subset(SETTINGS), "seed": training.seed},
        {
            "images": digest(context.train_ids),
            "masks to learn from": label_digest(context, paths),
            "initialisation": init_digest(context),
        },
    )

    def claim() -> bool:
        if not weights.exists():
            training.demand_room_for_best()
        if overwrite or not weights.record_path.exists():
            # Notes that nothing else is left of would stand for this training's.
            for path in (training.best_weights.path, training.notes_path):
                path.unlink(missing_ok=True)
        return weights.claim(record, overwrite=overwrite, sealed=True)

    if not context.runtime.on_main(claim):
        return None
    return _train(context, training, record)


def _train(context: Context, training: Training, record: Record) -> dict[str, Any]:
    config, runtime, ids = context.config, context.runtime, context.train_ids
    torch.manual_seed(training.seed)
    network = build_segmentation_network(context)
    if config.seg_init == "imagenet":
        runtime.once_on_each_machine(lambda: fetch_imagenet_weights(config.seg_backbone, FLAG))
    start = initialise(network, init_path(context))
    logger.info(
        "train_seg: seed %d, starts from: %s; learns from: %s",
        training.seed, start, describe_labels(context),
    )  # fmt: skip
    paths = label_paths(context, ids)
    crops = SegmentationCrops(
        context.dataset, ids, paths.__getitem__, config.seg_crop, config.seg_rescale, training.seed
    )
    num_batches = config.seg_iters * config.seg_accumulation
    plan = BatchPlan.of_steps(len(ids), config.seg_batch_size, num_batches, training.seed)
    validation = Validation(context, training, network, start)

    def share_of_loss(module: nn.Module, batch: Batch) -> Tensor:
        logits = module(normalize_crops(batch["image"], batch["box"]))
        return segmentation_loss(
            logits,
            batch["mask"],
            balanced=config.seg_balanced,
            reduce_count=runtime.sum_over_processes,
        )

    trained = train(
        runtime,
        MultiScale(network, config.seg_pyramid).train(),
        make_optimizer(context, network),
        crops,
        plan,
        share_of_loss,
        Checkpoints(
            training.weights.checkpoint_path,
            config.checkpoint_every,
            {**record.settings, **record.inputs},
        ),
        desc="train_seg",
        accumulate=config.seg_accumulation,
        after_update=validation.after_update,
        update_every=validation.every,
    )
    if runtime.is_main:
        training.weights.keep(partial(save_weights, network))
    runtime.barrier()
    # Accelerate keeps what it prepared: several seeds would pile up in memory.
    runtime.accelerator.free_memory()
    images = trained.steps * plan.batch_size
    return {
        "images": images,
        "loss": trained.loss,
        "seed": training.seed,
        "initialisation": start,
    }


def make_optimizer(context: Context, network: DeepLabV2) -> PolySgd:
    """The optimiser of DeepLab-v2: three groups, and a rate that falls in stairs."""
    config, groups = context.config, network.parameter_groups()
    rate = config.seg_learning_rate
    return PolySgd(
        [
            {"params": groups.backbone},
            {"params": groups.aspp_weights, "lr": rate * ASPP_WEIGHT_RATE},
            {"params": groups.aspp_biases, "lr": rate * ASPP_BIAS_RATE, "weight_decay": 0.0},
        ],
        lr=rate,
        weight_decay=config.seg_weight_decay,
        momentum=config.seg_momentum,
        max_step=config.seg_iters,
        every=UPDATES_A_RATE,
    )


class Validation:
    """Scores val every so many updates and keeps the best weights; the notes survive a resume."""

    def __init__(
        self, context: Context, training: Training, network: DeepLabV2, start: str
    ) -> None:
        self.context = context
        self.training = training
        self.network = network
        self.start = start
        self.every = context.config.seg_val_every  # updates; 0: never
        if self.every and not context.val_ids_if_any():
            logger.warning("train_seg: there is no list %s: no best", context.config.val_list)
            self.every = 0

    def after_update(self, updates: int) -> None:
        """Score val if it is to be, and keep the weights if they are the best so far."""
        miou = val_miou(self.context, self.network) if self.every else None
        if self.context.runtime.is_main:
            self._note(updates, miou)

    def _note(self, updates: int, miou: float | None) -> None:
        notes = Notes.read(self.training.notes_path)
        # After a resume, what came later than its checkpoint comes again.
        notes.validation = [entry for entry in notes.validation if entry["updates"] < updates]
        notes.initialisation = self.start
        notes.labels = describe_labels(self.context)
        notes.updates = updates
        if miou is not None:
            entry = {"updates": updates, "miou": miou}
            notes.validation.append(entry)
            logger.info("train_seg: mIoU on val %.2f%% after update %d", 100 * miou, updates)
            # What a resumed run had kept before stays: on a GPU no update comes again exactly.
            if notes.best is None or miou > notes.best["miou"]:
                save_weights(self.network, self.training.best_weights.path)
                notes.best = entry
        notes.write(self.training.notes_path)


def val_miou(context: Context, network: DeepLabV2) -> float:
    """Mean IoU (0..1) over the val list without a CRF, the same in every process."""
    confusion = ConfusionMatrix(context.dataset.num_classes + 1)
    share = context.runtime.shard(context.val_ids)
    for image_id, image, logits in predict_classes(context, network, share):
        classes = stretch(logits[None], image.shape[:2])[0].argmax(0)
        truth = read_mask(context.dataset.mask_path(image_id))
        confusion.add(truth, classes.to(torch.uint8).cpu().numpy())
    matrix = torch.from_numpy(confusion.matrix).to(context.runtime.device)
    confusion.matrix = context.runtime.sum_over_processes(matrix).cpu().numpy()
    return confusion.scores().miou
