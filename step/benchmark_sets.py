"""The sets that the benchmark compares, and where what it makes of them lies."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from misc.cam_files import CAM_FORMATS
from misc.config import Config
from misc.errors import UserError
from misc.workspace import digest, stat_digest
from step.context import Context
from voc12.lists import split_ids

NO_SALIENCY = "none"
OWN = "own"
NAME = re.compile(r"[\w.+-]{1,100}")
FOLDER = "benchmark"


@dataclass(frozen=True)
class MapSet:
    """A named folder of CAMs or of saliency maps; `folder` None is the set without saliency."""

    name: str
    folder: Path | None
    cam_format: str = "auto"


def cam_sets(config: Config) -> list[MapSet]:
    """The sets of `--benchmark_cams`, by default the run's own CAMs.

    Raises:
        UserError: if the flag cannot be understood.
    """
    if not config.benchmark_cams:
        return [MapSet(OWN, config.path("cam_out_dir"), config.cam_format)]
    sets = []
    for name, text in _named("--benchmark_cams", config.benchmark_cams):
        folder, colon, cam_format = text.rpartition(":")
        if colon and cam_format in CAM_FORMATS:
            sets.append(MapSet(name, Path(folder), cam_format))
        else:
            sets.append(MapSet(name, Path(text), config.cam_format))
    return sets


def saliency_sets(config: Config) -> list[MapSet]:
    """The sets of `--benchmark_sals`, by default the run's own, and the one without saliency.

    Raises:
        UserError: if the flag cannot be understood.
    """
    none = MapSet(NO_SALIENCY, None)
    if config.benchmark_sals:
        named = _named("--benchmark_sals", config.benchmark_sals)
        return [*(MapSet(name, Path(text)) for name, text in named), none]
    own = config.saliency_root()
    return [none] if own is None else [MapSet(OWN, own), none]


def _named(flag: str, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    seen = set()
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or not folder or not NAME.fullmatch(name) or name.strip(".") == "":
            raise UserError(
                f"{flag}: {text!r} is not name=folder. A name has letters, digits and . + - _"
            )
        if name in seen or name == NO_SALIENCY:
            why = "stands for no saliency" if name == NO_SALIENCY else "is there twice"
            raise UserError(f"{flag}: the name {name} {why}. Choose another.")
        seen.add(name)
        yield name, folder


def with_sets(config: Config, cams: MapSet, saliency: MapSet) -> Config:
    """`config` with the folders of a pair of sets as its own."""
    return dataclasses.replace(
        config,
        cam_out_dir=cams.folder,
        cam_format=cams.cam_format,
        saliency="none" if saliency.folder is None else "maps",
        sal_root=saliency.folder,
    )


def sbe_folder(config: Config, cams: MapSet, saliency: MapSet, seed: int) -> Path:
    """Where SBE (BES without saliency) of one pair and seed lies."""
    return config.out_dir / FOLDER / "sbe" / cams.name / saliency.name / f"seed_{seed}"


def sbe_seeds(config: Config) -> tuple[int, ...]:
    """The seeds that SBE is trained with."""
    return config.benchmark_seeds or (config.seed,)


def sbe_configs(config: Config) -> list[Config]:
    """The runs of SBE and BES: one for each pair of sets and each seed.

    They share confident regions where the CAMs are the same, and boundary labels where the pair is.
    """
    folder = config.out_dir / FOLDER
    return [
        dataclasses.replace(
            with_sets(config, cams, saliency),
            out_dir=sbe_folder(config, cams, saliency, seed),
            cam_vis_dir=folder / "sbe_regions" / cams.name,
            boundary_label_dir=folder / "sbe_labels" / cams.name / saliency.name,
            sem_seg_out_dir=None,
            bes_weights_name=None,
            cam_weights_name=config.path("cam_weights_name"),
            log_name=None,
            seed=seed,
            panels=0,
        )
        for cams in cam_sets(config)
        for saliency in saliency_sets(config)
        for seed in sbe_seeds(config)
    ]


@dataclass(frozen=True)
class Sets:
    """What one run of the benchmark compares: sets, and images."""

    context: Context

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.context.config.out_dir / FOLDER

    @cached_property
    def cams(self) -> list[MapSet]:
        """The activation sets."""
        return cam_sets(self.context.config)

    @cached_property
    def saliency(self) -> list[MapSet]:
        """The saliency sets, the one without last."""
        return saliency_sets(self.context.config)

    @cached_property
    def evaluated(self) -> list[str]:
        """Images that are scored."""
        return self.context.eval_ids

    @cached_property
    def chosen(self) -> list[str]:
        """Images of the train list, drawn by the seed, that thresholds are chosen on too."""
        config = self.context.config
        count = config.benchmark_choose_images
        if count == 0:
            return []
        ids = split_ids(self.context.dataset, config.train_list)
        places = np.random.default_rng(config.seed).permutation(len(ids))[:count]
        return [ids[place] for place in sorted(places.tolist())]

    @property
    def num_chosen_and_evaluated(self) -> int:
        """How many images choose thresholds and are scored too, which flatters the choice."""
        return len(set(self.chosen) & set(self.evaluated))

    @cached_property
    def ids(self) -> list[str]:
        """All images that are read."""
        return list(dict.fromkeys([*self.evaluated, *self.chosen]))

    @cached_property
    def truth_digest(self) -> str:
        """Fingerprint of what is scored against, and on which images."""
        dataset = self.context.dataset
        masks = stat_digest(dataset.mask_path(image_id) for image_id in self.ids)
        return digest([masks, self.evaluated, self.chosen, dataset.class_names])

    def context_of(self, cams: MapSet | None = None, saliency: MapSet | None = None) -> Context:
        """The run's context with a set's folders as its own."""
        config = self.context.config
        config = with_sets(config, cams or self.cams[0], saliency or self.saliency[-1])
        return dataclasses.replace(self.context, config=config)
