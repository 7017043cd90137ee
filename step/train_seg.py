"""Train DeepLab-v2 on pseudo masks, or on the exact ones for the upper bound."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from misc.config import distinct_seeds, positive_numbers, setting
from misc.workspace import atomic_write
from step.artefacts import CLASS_NAMES, PHOTOGRAPHS, ExactMasks
from step.graph import Artefact, Node, TrainingStep, Work
from step.seg.inputs import FLAG, MASKS_TO_LEARN, START
from step.seg.notes import Notes
from step.seg.results import BEST, SEG_WEIGHTS, WEIGHTS, notes_path, seeds_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from misc.training import Batch, Learning, PolySgd
    from net.deeplab_v2 import DeepLabV2
    from step.run import Run

logger = logging.getLogger(__name__)

SEG_BACKBONES = ("resnet18", "resnet50", "resnet101", "squeezenet1_0")
VAL_MASKS = ExactMasks(
    "Put masks of the images' sizes there, score another split with --val_list, or pass "
    "--seg_val_every 0."
)
VAL_TABLE, VAL_HEADER = ".val.csv", "update,miou"
ASPP_WEIGHT_RATE, ASPP_BIAS_RATE = 10, 20
UPDATES_A_RATE = 10  # updates between changes of the learning rate


@dataclass(frozen=True)
class Settings:
    """How the segmentation network is trained; the defaults are the usual protocol's."""

    heading: ClassVar[str] = "segmentation network, DeepLab-v2 (train_seg)"

    seg_backbone: str = setting("resnet101", "backbone of DeepLab-v2", SEG_BACKBONES)
    seg_init: str = setting(
        "imagenet",
        "initial weights: imagenet, none (random), cam (the classifier's backbone), or a file of "
        "torchvision, this project, IRN or deeplab-pytorch (COCO-pretrained)",
        decides="input",
    )
    seg_label_dir: str = setting(
        "auto",
        "masks to learn from: pseudo (--sem_seg_out_dir after the CRF), refined (--refined_out_dir "
        "after the CRF), gt (the ground truth), or a folder of <id>.png or <id>_crf.png; auto: "
        "refined with --sam_root, else pseudo",
        decides="input",
    )
    seg_seeds: tuple[int, ...] = setting(
        (), "train once for each of these seeds, such as 0,1,2 (default: --seed)", at_least=0,
        rule=distinct_seeds, decides="no effect",
    )  # fmt: skip
    seg_iters: int = setting(20_000, "number of weight updates", at_least=1, at_most=10**7)
    seg_batch_size: int = setting(
        5, "images per batch, over all processes", at_least=1, at_most=10**5
    )
    seg_accumulation: int = setting(2, "batches per update", at_least=1, at_most=10**4)
    seg_crop: int = setting(321, "crop size in pixels", at_least=1, at_most=10_000)
    seg_rescale: tuple[float, ...] = setting(
        (0.5, 0.75, 1.0, 1.25, 1.5), "scales of training images, one drawn per crop",
        rule=positive_numbers, at_least=0.01, at_most=20,
    )  # fmt: skip
    seg_pyramid: tuple[float, ...] = setting(
        (1.0, 0.75, 0.5), "scales of the loss; their losses and that of their maximum add up",
        rule=positive_numbers, at_least=0.01, at_most=20,
    )  # fmt: skip
    seg_learning_rate: float = setting(
        2.5e-4,
        "learning rate of the backbone; x10 for the head's weights, x20 for its biases",
        at_least=0,
        at_most=100,
    )
    seg_weight_decay: float = setting(
        5e-4, "weight decay (none for the head's biases)", at_least=0, at_most=1
    )
    seg_momentum: float = setting(0.9, "SGD momentum", at_least=0, below=1)
    seg_balanced: bool = setting(
        False, "give background and foreground the same weight in the loss"
    )
    seg_val_every: int = setting(
        2000,
        "score --val_list every so many updates and after the last, and also keep the best "
        "weights; 0: never, and keep only the last weights",
        at_least=0,
        at_most=10**7,
    )


class TrainSeg(TrainingStep):
    """DeepLab-v2, once for each seed."""

    help = "train DeepLab-v2 on the pseudo masks"
    reads = (PHOTOGRAPHS, CLASS_NAMES, MASKS_TO_LEARN, START)
    writes = SEG_WEIGHTS
    flags = Settings
    is_default = False
    tables: ClassVar[Mapping[str, str]] = {**TrainingStep.tables, VAL_TABLE: VAL_HEADER}
    # They decide which weights are the best on val; the last ones are the same.
    unrecorded = ("seg_val_every", "seg_test_scales", "seg_test_flip")

    def nodes(self, run: "Run") -> list[Node]:
        """One training for each of `--seg_seeds`."""
        if not run.setting("seg_seeds"):
            return [Node(self, run)]
        return [
            Node(self, each, f"seed {each.config.seed}", f"_seed{each.config.seed}")
            for each in seeds_of(run)
        ]

    def images(self, run: "Run") -> list[str]:
        return run.train_ids

    def written(self, run: "Run") -> tuple[Artefact, ...]:
        """The last weights and, where val is scored, the best."""
        has_best = run.setting("seg_val_every") and run.val_ids
        return (SEG_WEIGHTS, WEIGHTS[BEST]) if has_best else (SEG_WEIGHTS,)

    def problems(self, run: "Run", todo: Sequence[str]) -> list[str]:
        """Bad validation images, and a file of the user's where the best weights would go."""
        problems = []
        if run.setting("seg_val_every"):
            problems += PHOTOGRAPHS.problems(run, run.val_ids)
            problems += VAL_MASKS.problems(run, run.val_ids)
        best, weights = WEIGHTS[BEST].path(run), SEG_WEIGHTS.file(run)
        if best.exists() and best.name not in weights.companions():
            problems.append(
                f"{best} is where the best weights on val would go, but the file there was not "
                "made by this training: it is not overwritten. Move it away, or choose other "
                f"weights with {weights.flag}."
            )
        return problems

    def warnings(self, run: "Run", ids: Sequence[str]) -> list[str]:
        """Those of every training, and that there is nothing to find the best weights by."""
        told = super().warnings(run, ids)
        if run.setting("seg_val_every") and not run.val_ids:
            told.append(
                f"{self.name}: there is no list {run.config.val_list}, so no best weights are kept."
            )
        return told

    epochs_flag = "seg_iters"

    def updates(self, run: "Run", num_images: int) -> int:
        return run.setting("seg_iters")

    def make(
        self,
        work: Work,
        *,
        seg_backbone: str,
        seg_iters: int,
        seg_batch_size: int,
        seg_accumulation: int,
        seg_crop: int,
        seg_rescale: tuple[float, ...],
        seg_pyramid: tuple[float, ...],
        seg_learning_rate: float,
        seg_weight_decay: float,
        seg_momentum: float,
        seg_balanced: bool,
        seg_val_every: int,
        seg_test_scales: tuple[float, ...],
        seg_test_flip: bool,
        seed: int,
    ) -> "Learning":
        """DeepLab-v2 from its start, its crops, its losses over scales, and its validation."""
        from misc.training import BatchPlan, Learning
        from misc.transforms import normalize_crops
        from net.backbone import fetch_imagenet_weights
        from net.deeplab_v2 import MultiScale
        from net.segmentation_init import initialise
        from net.segmentation_losses import segmentation_loss
        from step.common.networks import build_segmentation_network
        from voc12.dataloader import SegmentationCrops

        run, init = work.run, START.word_or_path(work.run)
        network = build_segmentation_network(run, seg_backbone, from_scratch=init == "none")
        if init == "imagenet":
            run.runtime.once_on_each_machine(lambda: fetch_imagenet_weights(seg_backbone, FLAG))
        start, labels = initialise(network, init), MASKS_TO_LEARN.describe(run)
        logger.info("train_seg: seed %d, starts from: %s; learns from: %s", seed, start, labels)
        masks = MASKS_TO_LEARN.paths(run, work.ids)
        crops = SegmentationCrops(
            run.dataset, work.ids, masks.__getitem__, seg_crop, seg_rescale, seed
        )
        num_batches = seg_iters * seg_accumulation
        plan = BatchPlan.of_steps(len(work.ids), seg_batch_size, num_batches, seed)
        notes = Notes(initialisation=start, labels=labels)
        validation = Validation(run, work.training, network, notes, seg_test_scales, seg_test_flip)
        scores_val = bool(seg_val_every and run.val_ids)
        if not scores_val:
            validation.forget_best()

        def share_of_loss(module: "nn.Module", batch: "Batch") -> "Tensor":
            logits = module(normalize_crops(batch["image"], batch["box"], network.zero))
            return segmentation_loss(
                logits,
                batch["mask"],
                balanced=seg_balanced,
                reduce_count=run.runtime.sum_over_processes,
            )

        optimizer = make_optimizer(
            network, seg_learning_rate, seg_weight_decay, seg_momentum, seg_iters
        )
        return Learning(
            network,
            optimizer,
            crops,
            plan,
            share_of_loss,
            model=MultiScale(network, seg_pyramid).train(),
            accumulate=seg_accumulation,
            after_update=validation.score_and_note if scores_val
            else validation.note,
            update_every=seg_val_every if run.val_ids else 0,
            notes={"initialisation": start, "labels": labels},
        )  # fmt: skip


def make_optimizer(
    network: "DeepLabV2", rate: float, weight_decay: float, momentum: float, num_updates: int
) -> "PolySgd":
    """The optimiser of DeepLab-v2: three groups, and a learning rate that falls in steps."""
    from misc.training import PolySgd

    groups = network.parameter_groups()
    return PolySgd(
        [
            {"params": groups.backbone},
            {"params": groups.aspp_weights, "lr": rate * ASPP_WEIGHT_RATE},
            {"params": groups.aspp_biases, "lr": rate * ASPP_BIAS_RATE, "weight_decay": 0.0},
        ],
        lr=rate,
        weight_decay=weight_decay,
        momentum=momentum,
        max_step=num_updates,
        every=UPDATES_A_RATE,
    )


class Validation:
    """Scores val every so many updates and keeps the best weights; the notes survive a stop."""

    def __init__(
        self,
        run: "Run",
        folder: Path,
        network: "DeepLabV2",
        notes: Notes,
        scales: tuple[float, ...],
        flip: bool,
    ) -> None:
        self.run = run
        self.path = folder / notes_path(run).name
        self.table_path = folder / SEG_WEIGHTS.file(run).beside(VAL_TABLE).name
        self.best_path = folder / WEIGHTS[BEST].path(run).name
        self.network = network
        self.scales, self.flip = scales, flip
        earlier = Notes.read(self.path)
        self.notes = notes
        self.notes.validation, self.notes.best = earlier.validation, earlier.best

    def forget_best(self) -> None:
        """Drop what a stopped run that scored val has kept as the best."""
        self.notes.validation, self.notes.best = [], None
        if self.run.runtime.is_main:
            self.best_path.unlink(missing_ok=True)
            self.table_path.unlink(missing_ok=True)

    def note(self, updates: int) -> None:
        """Write down how many updates there were."""
        if self.run.runtime.is_main:
            self.notes.updates = updates
            self.notes.write(self.path)

    def score_and_note(self, updates: int) -> None:
        """Score val, and keep the weights if they are the best so far."""
        from misc.weights import save_weights

        miou = val_miou(self.run, self.network, self.scales, flip=self.flip)
        if not self.run.runtime.is_main:
            return
        notes, entry = self.notes, {"updates": updates, "miou": miou}
        # After a stop, what came later than its checkpoint comes again.
        notes.validation = [each for each in notes.validation if each["updates"] < updates]
        notes.validation.append(entry)
        logger.info("train_seg: mIoU on val %.2f%% after update %d", 100 * miou, updates)
        # What a run had kept before it was stopped stays: on a GPU no update comes again exactly.
        if notes.best is None or miou > notes.best["miou"]:
            save_weights(self.network, self.best_path)
            notes.best = entry
        with atomic_write(self.table_path) as file:
            rows = [f"{each['updates']},{each['miou']:.6g}" for each in notes.validation]
            file.write("\n".join([VAL_HEADER, *rows, ""]).encode())
        self.note(updates)


def val_miou(run: "Run", network: "DeepLabV2", scales: tuple[float, ...], *, flip: bool) -> float:
    """Mean IoU (0..1) over the val list without a CRF, the same in every process."""
    import torch

    from misc.images import read_mask
    from misc.metrics import ConfusionMatrix
    from net.deeplab_v2 import stretch
    from step.common.predict import predict_classes

    confusion = ConfusionMatrix(run.dataset.num_classes + 1)
    share = run.runtime.shard(run.val_ids)
    predicted = predict_classes(run, network, share, scales, flip=flip, weights=SEG_WEIGHTS)
    for image_id, image, logits in predicted:
        classes = stretch(logits[None], image.shape[:2])[0].argmax(0)
        truth = read_mask(run.dataset.mask_path(image_id))
        confusion.add(truth, classes.to(torch.uint8).cpu().numpy())
    matrix = torch.from_numpy(confusion.matrix).to(run.runtime.device)
    confusion.matrix = run.runtime.sum_over_processes(matrix).cpu().numpy()
    return confusion.scores().miou
