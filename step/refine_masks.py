"""Pseudo masks refined by the regions of Segment Anything (SAM): SEPL's rule."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from misc.config import INPUT, Config, setting
from misc.errors import UserError, some_images
from misc.images import image_size, read_mask, write_palette_png
from misc.runtime import WorkerPool
from misc.sam import (
    CLASS_SHARE,
    REGION_SHARE,
    Refinement,
    RegionFolder,
    files_of_regions,
    read_regions,
)
from misc.workspace import ImageFolder, atomic_write, digest
from step.artefacts import PSEUDO_MASKS, REFINED_MASKS
from step.common.checks import look_at_files, shorten
from step.graph import ImageStep, Source, Work
from voc12.picture_sizes import IMAGE, sizes_of

if TYPE_CHECKING:
    from step.run import Run


@dataclass(frozen=True)
class Settings:
    """Where the regions are, and when one goes to a class."""

    heading: ClassVar[str] = "refinement by Segment Anything's regions (refine_masks)"

    sam_root: Path | None = setting(
        None,
        "folder of Segment Anything's regions (amg.py's <id>/ or <id>.json, S2C's <id>.npy): "
        "pseudo masks are refined by them",
        decides=INPUT,
        in_short_help=True,
    )
    refine_region_share: float = setting(
        REGION_SHARE, "a region goes to a class if more than this share of it lies in the class",
        at_least=0, at_most=1,
    )  # fmt: skip
    refine_class_share: float = setting(
        CLASS_SHARE, "or if it covers at least this share of the class's pixels",
        at_least=0, at_most=1,
    )  # fmt: skip


class SamRegions(Source):
    """`--sam_root`: the regions of every image."""

    name = "SAM's regions"

    def folder(self, run: "Run") -> RegionFolder:
        """Where they are.

        Raises:
            UserError: without the flag, or if that is no folder.
        """
        root = run.setting("sam_root")
        if root is None:
            raise UserError("refine_masks refines masks by SAM's regions: pass --sam_root DIR.")
        return run.once(("sam", root), lambda: RegionFolder(root))

    def own(self, run: "Run", ids: Sequence[str]) -> Mapping[str, str]:
        """Content of the files of each image, whatever they are called."""
        folder = self.folder(run)
        known: dict[str, str] = run.once((self.name, folder.path), dict)
        paths = {image_id: folder.find(image_id) for image_id in ids if image_id not in known}
        files = {i: [] if path is None else files_of_regions(path) for i, path in paths.items()}
        of_all = [path for each in files.values() for path in each]
        found = iter(run.fingerprints.of_all(of_all, desc=f"fingerprints of {self.name}"))
        for image_id, each in files.items():
            known[image_id] = digest(sorted(next(found) for _ in each))
        return known

    def problems(self, run: "Run", ids: Sequence[str]) -> list[str]:
        """Images without regions, or with such as cannot be read; all are tried."""
        folder, sizes = self.folder(run), sizes_of(run.dataset, IMAGE)
        found = {image_id: folder.find(image_id) for image_id in ids}
        missing = [image_id for image_id, path in found.items() if path is None]
        problems = []
        if missing:
            problems.append(
                f"{folder.path} lacks the regions of {some_images(missing)}: {missing[0]}/, "
                f"{missing[0]}.json or {missing[0]}.npy. Make them with segment-anything's "
                "scripts/amg.py, shorten --infer_list, or leave out --sam_root."
            )
        items = {i: (path, sizes.path_of(i)) for i, path in found.items() if path is not None}
        contents = self.own(run, list(items))
        known = {image_id: [self.name, contents[image_id], sizes[image_id]] for image_id in items}
        bad, _ = look_at_files(run, _read, items, known, f"checking {self.name}")
        return problems + shorten(list(bad.values()), "regions")


def _read(item: tuple[Path, Path]) -> str:
    path, image_path = item
    for _ in read_regions(path, image_size(image_path)):
        pass
    return ""  # nothing is to be remembered but that they are sound


SAM_REGIONS = SamRegions()


class RefineMasks(ImageStep):
    """Both masks of every image, before and after the CRF, with the same regions."""

    help = "refine the pseudo masks by SAM's regions"
    reads = (PSEUDO_MASKS, SAM_REGIONS)
    writes = REFINED_MASKS
    flags = Settings
    is_default = False
    comes_with = "--sam_root DIR"
    in_demo = False

    def runs_unasked(self, config: Config) -> bool:
        return config.sam_root is not None  # type: ignore[attr-defined]

    def images(self, run: "Run") -> list[str]:
        return run.infer_ids

    def place(self, run: "Run") -> Path:
        return self.writes.path(run)

    def make(
        self, work: Work, *, refine_region_share: float, refine_class_share: float
    ) -> Iterator[object]:
        """Write the refined masks of `work.ids`."""
        run, regions = work.run, SAM_REGIONS.folder(work.run)
        items = ((i, run.dataset.image_path(i), regions.find(i)) for i in work.ids)
        job = partial(
            _refine,
            masks=PSEUDO_MASKS.folder(run),
            folder=work.files,
            region_share=refine_region_share,
            class_share=refine_class_share,
        )
        with WorkerPool(run.runtime.num_workers) as pool:
            yield from pool.map(job, items)


def _refine(
    item: tuple[str, Path, Path], *, masks: ImageFolder, folder: ImageFolder, **shares: float
) -> None:
    image_id, image_path, path = item
    refinements = {
        suffix: Refinement(read_mask(masks.file(image_id, suffix)), **shares)
        for suffix in masks.suffixes
    }
    for region in read_regions(path, image_size(image_path)):
        for refinement in refinements.values():
            refinement.add(region)
    for suffix, refinement in refinements.items():
        with atomic_write(folder.file(image_id, suffix)) as file:
            write_palette_png(file, refinement.mask())
