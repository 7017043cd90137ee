"""What the segmentation network learns from and starts from, and what it segments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from misc.errors import UserError
from misc.workspace import Identity
from step.artefacts import CAM_WEIGHTS, PSEUDO_MASKS, REFINED_MASKS
from step.common.checks import map_problems, problems_of
from step.common.plugged import CodedPictures, codes_of_masks
from step.common.results import maker_of
from step.graph import ImageFiles, Source
from voc12.files import CRF_SUFFIX, mask_paths
from voc12.lists import VAL

if TYPE_CHECKING:
    from step.run import Run

GT, AUTO = "gt", "auto"
MASKS_OF_A_WORD = {"pseudo": PSEUDO_MASKS, "refined": REFINED_MASKS}
FLAG = "--seg_init"
INIT_WORDS = ("imagenet", "none")


def images_to_segment(run: "Run") -> list[str]:
    """The images of `--make_seg_split`.

    Raises:
        UserError: if there is no such list, or it is bad.
    """
    split = run.setting("make_seg_split")
    path = run.dataset.list_path(split)
    if split == VAL and not path.exists():
        raise UserError(
            f"No list {path}, whose images make_seg segments. Write one image id per line, or "
            "choose another list: --make_seg_split train."
        )
    return run.split(split)


@dataclass(frozen=True)
class MasksToLearn(Source):
    """`--seg_label_dir`: the pseudo or the refined masks, the exact ones, or a folder's."""

    name: str = "the masks to learn from"

    def word_or_path(self, run: "Run") -> str:
        """What the flag says; of `auto` what it stands for in this run."""
        labels = run.setting("seg_label_dir")
        if labels != AUTO:
            return labels
        return "pseudo" if run.setting("sam_root") is None else "refined"

    def artefact(self, run: "Run") -> ImageFiles | None:
        """The masks of this run that are learnt from; None for others."""
        return MASKS_OF_A_WORD.get(self.word_or_path(run))

    def paths(self, run: "Run", ids: Sequence[str]) -> dict[str, Path]:
        """The mask of each image.

        Raises:
            UserError: if one of them is missing.
        """
        labels, artefact = self.word_or_path(run), self.artefact(run)
        if labels == GT:
            return {image_id: run.dataset.augmented_mask_path(image_id) for image_id in ids}
        suffixes: tuple[str, ...] = (CRF_SUFFIX, "")
        if artefact is not None:
            folder = artefact.path(run)
            if not artefact.made(run).is_foreign:  # one of ours that is missing is no choice
                suffixes = (CRF_SUFFIX,)
            remedy = f"Run {maker_of(artefact)} with --infer_list {run.config.train_aug_list}"
        else:
            folder, remedy = Path(labels), "Put them there"
        try:
            return mask_paths(folder, ids, suffixes)
        except UserError as error:
            raise UserError(f"{error} {remedy}, or choose another --seg_label_dir.") from None

    def describe(self, run: "Run") -> str:
        """What they are, in words."""
        labels, artefact = self.word_or_path(run), self.artefact(run)
        if artefact is not None:
            return f"{artefact.name.removeprefix('the ')}, {artefact.path(run)}"
        return "the exact masks" if labels == GT else labels

    def path(self, run: "Run") -> Path | None:
        artefact = self.artefact(run)
        return None if artefact is None else artefact.path(run)

    def shared(self, run: "Run") -> Identity | None:
        artefact = self.artefact(run)
        return None if artefact is None else artefact.shared(run)

    def own(self, run: "Run", ids: Sequence[str]) -> Mapping[str, str]:
        """What each of this run's masks is made from; of other masks, their content."""
        artefact = self.artefact(run)
        if artefact is not None:
            return artefact.own(run, ids)
        paths = self.paths(run, ids)
        contents = run.fingerprints.of_all(
            list(paths.values()), desc=f"fingerprints of {self.name}"
        )
        return dict(zip(paths, contents, strict=True))

    def problems(self, run: "Run", ids: Sequence[str]) -> list[str]:
        path = self.path(run)
        planned = None if path is None else run.ledger.get(path)
        if planned is not None:
            ids = [image_id for image_id in ids if not planned.covers(image_id)]
        if missing := problems_of(lambda: self.paths(run, ids)):
            return missing
        paths, remedy = self.paths(run, ids), "Choose another --seg_label_dir."
        problems = map_problems(run.dataset, paths, "Training mask", remedy)
        if problems or self.artefact(run) is not None:
            return problems  # masks of this run were looked at by what made them
        return self._coded(run, ids).problems()

    def warnings(self, run: "Run", ids: Sequence[str]) -> list[str]:
        """Whether masks of somebody else show what the images' tags name."""
        artefact = self.artefact(run)
        if artefact is not None:
            return artefact.warnings(run, ids)
        return self._coded(run, ids).warnings()

    def _coded(self, run: "Run", ids: Sequence[str]) -> CodedPictures:
        files = {image_id: [mask] for image_id, mask in self.paths(run, ids).items()}
        codes = codes_of_masks(run.dataset.num_classes)
        return CodedPictures(run, files, self.own(run, ids), codes, "--seg_label_dir")


@dataclass(frozen=True)
class Start(Source):
    """`--seg_init`: what the network starts from."""

    name: str = "the initialisation"

    def path(self, run: "Run") -> Path | None:
        return CAM_WEIGHTS.path(run) if run.setting("seg_init") == "cam" else None

    def word_or_path(self, run: "Run") -> str:
        """`imagenet`, `none`, or the path of a file."""
        init = run.setting("seg_init")
        return str(CAM_WEIGHTS.path(run)) if init == "cam" else init

    def shared(self, run: "Run") -> Identity | None:
        """The word, the file's content, or what the classifier is trained from."""
        init = run.setting("seg_init")
        if init == "cam":
            return CAM_WEIGHTS.shared(run)
        if init in INIT_WORDS:
            return Identity.of_content(init)
        return Identity.of_content(run.fingerprints.of(Path(init)))

    def problems(self, run: "Run", ids: Sequence[str]) -> list[str]:
        """Weights that are not available or do not fit: tried on a network that is then discarded.

        The training itself may come hours later.
        """
        config, init, backbone = run.config, run.setting("seg_init"), run.setting("seg_backbone")
        is_cam = init == "cam"
        is_to_come = is_cam and CAM_WEIGHTS.path(run) in run.ledger
        problems = [] if is_to_come else self._problems_of_weights(run)
        if is_cam and backbone != config.backbone and (is_to_come or problems):
            differ = (
                f"--seg_init cam starts from the classifier, whose --backbone is {config.backbone}"
                f", but --seg_backbone is {backbone}. Make both the same, or pass --seg_init "
                "imagenet, none or a file."
            )
            return [differ, *problems]
        return problems

    def _problems_of_weights(self, run: "Run") -> list[str]:
        init, word = run.setting("seg_init"), self.word_or_path(run)
        if word == "none":
            return []
        if word == "imagenet":
            return run.fetch_problems(run.setting("seg_backbone"), FLAG)
        if not Path(word).is_file():
            return [
                f"{FLAG} {init}: there is no file {word}. Pass a file, imagenet, none, or cam "
                "after train_cam."
            ]
        return [f"{FLAG} {init}: {problem}" for problem in problems_of(lambda: _try(run, word))]


def _try(run: "Run", path: str) -> None:
    from net.segmentation_init import initialise
    from step.common.networks import build_segmentation_network

    initialise(build_segmentation_network(run, run.setting("seg_backbone")), path)


MASKS_TO_LEARN = MasksToLearn()
START = Start()
