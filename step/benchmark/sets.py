"""The sets that the benchmark compares, and where what it makes of them lies."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from misc.cam_files import CAM_FORMATS
from misc.config import OVERWRITE_ALL
from misc.errors import UserError
from misc.workspace import digest
from step.artefacts import (
    BES_WEIGHTS,
    BOUNDARY_LABELS,
    CAM_WEIGHTS,
    CAMS,
    CONFIDENT_REGIONS,
    PSEUDO_MASKS,
    SCORED_MASKS,
    WALKS,
)
from step.graph import Node, Step, step_named

if TYPE_CHECKING:
    from step.run import Run

NO_SALIENCY = "none"
OWN = "own"
NAME = re.compile(r"[\w.+-]{1,100}")
FORMAT_FLAG = re.compile(rf"--cam_format\b(?: ({'|'.join(CAM_FORMATS)})\b)?")
FOLDER = "benchmark"
MASK_STEPS = ("make_sem_seg", "eval_sem_seg")
SBE_STEPS = (
    "make_confident_regions", "make_boundary_label", "train_bes", "make_walk", "eval_walk",
    *MASK_STEPS,
)  # fmt: skip
SBE, BES, SALIENT_WALK = "sbe", "bes", "salient_walk"


@dataclass(frozen=True)
class MapSet:
    """A named folder of CAMs or of saliency maps; `folder` None is the set without saliency."""

    name: str
    folder: Path | None
    cam_format: str = "auto"

    def with_own_flag(self, message: str) -> str:
        """A message with the flag that gives this set its format, where it names --cam_format."""
        if self.name == OWN:
            return message

        def flag(found: re.Match[str]) -> str:
            return f"--benchmark_cams {self.name}={self.folder}:{found[1] or 'FORMAT'}"

        return FORMAT_FLAG.sub(flag, message)


def cam_sets(run: "Run") -> list[MapSet]:
    """The sets of `--benchmark_cams`, by default the run's own CAMs.

    Raises:
        UserError: if the flag cannot be understood.
    """
    texts, own_format = run.setting("benchmark_cams"), run.config.cam_format
    if not texts:
        return [MapSet(OWN, CAMS.path(run), own_format)]
    sets = []
    for name, text in _named("--benchmark_cams", texts):
        folder, colon, cam_format = text.rpartition(":")
        if colon and cam_format in CAM_FORMATS:
            sets.append(MapSet(name, Path(folder), cam_format))
        else:
            sets.append(MapSet(name, Path(text), own_format))
    return sets


def saliency_sets(run: "Run") -> list[MapSet]:
    """The sets of `--benchmark_sals`, by default the run's own, and the one without saliency.

    Raises:
        UserError: if the flag cannot be understood.
    """
    none = MapSet(NO_SALIENCY, None)
    texts = run.setting("benchmark_sals")
    if texts:
        named = _named("--benchmark_sals", texts)
        return [*(MapSet(name, Path(text)) for name, text in named), none]
    own = run.config.saliency_root()
    return [none] if own is None else [MapSet(OWN, own), none]


def _named(flag: str, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    seen = set()
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or not folder or not NAME.fullmatch(name) or name.strip(".") == "":
            raise UserError(
                f"{flag}: {text!r} is not name=folder. A name may have letters, digits and . + - _"
            )
        if name in seen or name == NO_SALIENCY:
            why = "stands for no saliency" if name == NO_SALIENCY else "is used twice"
            raise UserError(f"{flag}: the name {name} {why}. Choose another.")
        seen.add(name)
        yield name, folder


def of_sets(cams: MapSet, saliency: MapSet) -> dict[str, Any]:
    """The settings of a run that has a pair of sets as its own."""
    return {
        CAMS.flag: cams.folder,
        "cam_format": cams.cam_format,
        "saliency": "none" if saliency.folder is None else "maps",
        "sal_root": saliency.folder,
    }


def sbe_steps() -> list[Step]:
    """The steps of SBE after the CAMs."""
    return [step_named(name) for name in SBE_STEPS]


def mask_steps() -> list[Step]:
    """The last of them, which make masks of walked scores."""
    return [step_named(name) for name in MASK_STEPS]


@dataclass(frozen=True)
class Trained:
    """SBE, BES or the salient walk of one pair of sets and one seed.

    Attributes:
        method: SBE, BES (without saliency) or SALIENT_WALK.
        cams: the set of CAMs.
        saliency: the set of saliency maps.
        run: the variant of the run, with an output folder of the pair and the seed.
    """

    method: str
    cams: MapSet
    saliency: MapSet
    run: "Run"

    @property
    def ending(self) -> str:
        """Added to the steps' names in the scores."""
        return f"_{SALIENT_WALK}" if self.method == SALIENT_WALK else ""

    @property
    def steps(self) -> list[Step]:
        """The steps after the CAMs; the salient walk has those before its masks from SBE."""
        return mask_steps() if self.ending else sbe_steps()

    @property
    def nodes(self) -> list[Node]:
        """The steps in this variant."""
        name = f"{self.cams.name} x {self.saliency.name}, seed {self.run.config.seed}"
        name += ", salient walk" if self.ending else ""
        return [Node(step, self.run, name, self.ending) for step in self.steps]


def trained_variants(run: "Run") -> Iterator[Trained]:
    """SBE, BES and the salient walk for each pair of sets and each seed, in their order.

    They share confident regions where the CAMs are the same, and boundary labels where the pair is.
    """
    folder = run.config.out_dir / FOLDER
    for cams in cam_sets(run):
        for saliency in saliency_sets(run):
            for seed in run.setting("benchmark_seeds") or (run.config.seed,):
                variant = run.variant(
                    **of_sets(cams, saliency),
                    **{
                        CONFIDENT_REGIONS.flag: folder / "sbe_regions" / cams.name,
                        BOUNDARY_LABELS.flag: folder / "sbe_labels" / cams.name / saliency.name,
                        WALKS.flag: None,
                        PSEUDO_MASKS.flag: None,
                        BES_WEIGHTS.flag: None,
                        CAM_WEIGHTS.flag: CAM_WEIGHTS.path(run),
                    },
                    out_dir=folder / "sbe" / cams.name / saliency.name / f"seed_{seed}",
                    seed=seed,
                    sem_seg_scores="walk",
                    sem_seg_rule="threshold",
                )
                method = BES if saliency.folder is None else SBE
                yield Trained(method, cams, saliency, variant)
                if saliency.folder is not None:
                    masks = {PSEUDO_MASKS.flag: variant.config.out_dir / SALIENT_WALK}
                    salient = variant.variant(sem_seg_rule="saliency", **masks)
                    yield Trained(SALIENT_WALK, cams, saliency, salient)


@dataclass(frozen=True)
class Sets:
    """What one run of the benchmark compares: sets, and images."""

    run: "Run"

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.run.config.out_dir / FOLDER

    @property
    def is_redone(self) -> bool:
        """True if nothing that was counted before is to be used."""
        return self.run.config.overwrite == OVERWRITE_ALL

    @cached_property
    def cams(self) -> list[MapSet]:
        """The activation sets."""
        return cam_sets(self.run)

    @cached_property
    def saliency(self) -> list[MapSet]:
        """The saliency sets, the one without last."""
        return saliency_sets(self.run)

    @cached_property
    def evaluated(self) -> list[str]:
        """Images that are scored."""
        return self.run.eval_ids

    @cached_property
    def chosen(self) -> list[str]:
        """Images of the train list, drawn by the seed, that thresholds are chosen on too."""
        count = self.run.setting("benchmark_choose_images")
        if count == 0:
            return []
        ids = self.run.split(self.run.config.train_list)
        places = np.random.default_rng(self.run.config.seed).permutation(len(ids))[:count]
        return [ids[place] for place in sorted(places.tolist())]

    @property
    def num_chosen_and_evaluated(self) -> int:
        """How many images thresholds are chosen on and scored on, which favours the choice."""
        return len(set(self.chosen) & set(self.evaluated))

    @cached_property
    def ids(self) -> list[str]:
        """All images that are read."""
        return list(dict.fromkeys([*self.evaluated, *self.chosen]))

    @cached_property
    def truth_digest(self) -> str:
        """Tells what is scored against, and on which images."""
        masks = SCORED_MASKS.own(self.run, self.ids)
        contents = [masks[image_id] for image_id in self.ids]
        return digest([contents, self.evaluated, self.chosen, self.run.dataset.class_names])

    def run_of(self, cams: MapSet | None = None, saliency: MapSet | None = None) -> "Run":
        """The run with a set's folders as its own."""
        return self.run.variant(**of_sets(cams or self.cams[0], saliency or self.saliency[-1]))

    def missing_cams(self, cams: MapSet) -> list[str]:
        """Images without CAMs of a set, but for those that an earlier step of this run makes."""
        made = CAMS.made(self.run_of(cams=cams))
        return made.missing(made.not_planned(self.ids))
