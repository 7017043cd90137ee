"""Class activation maps of every image, over several scales and their mirror images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from misc.cam_files import CAM_DTYPES, Cams, write_irn
from misc.config import positive_numbers, setting
from misc.runtime import read_ahead
from misc.workspace import atomic_write
from step.artefacts import CAM_WEIGHTS, CAMS, CLASS_NAMES, PHOTOGRAPHS, TAGS
from step.graph import ImageStep, Work

if TYPE_CHECKING:
    from step.run import Run


@dataclass(frozen=True)
class Settings:
    """How CAMs are made and written."""

    heading: ClassVar[str] = "class activation maps (make_cam)"

    cam_scales: tuple[float, ...] = setting(
        (1.0, 0.5, 1.5, 2.0),
        "scales that images are seen at",
        rule=positive_numbers,
        at_least=0.01,
        at_most=20,
    )
    cam_dtype: str = setting("float32", "number type in the CAM files", CAM_DTYPES)
    cam_high_res: bool = setting(
        True, "also write full-size CAMs; no: derive them from stride 4 when reading"
    )


def _files_in(folder: Path) -> list[str]:
    """Names of the files that somebody put there."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".json"
    )


class MakeCam(ImageStep):
    """The classifier's maps of the tagged classes, summed over scales and mirror images."""

    help = "class activation maps of every image"
    reads = (PHOTOGRAPHS, TAGS, CLASS_NAMES, CAM_WEIGHTS)
    writes = CAMS
    flags = Settings

    def images(self, run: "Run") -> list[str]:
        return run.cam_ids

    def problems(self, run: "Run", todo: Sequence[str]) -> list[str]:
        """A folder of something else that was named as that of CAMs."""
        made = CAMS.made(run)
        path = made.folder.path
        others = [] if made.listing is None or made.listing.ids() else _files_in(path)
        if not others:
            return []
        return [
            f"--{CAMS.flag} {path} holds files ({others[0]}), but none is a CAM. Name the folder "
            "that has them, or another one to have them made. Masks go to --seg_label_dir."
        ]

    def make(
        self,
        work: Work,
        *,
        backbone: str,
        cam_scales: tuple[float, ...],
        cam_dtype: str,
        cam_high_res: bool,
    ) -> Iterator[None]:
        """Write the CAMs of `work.ids`."""
        import torch

        from net.cam import combine_scales
        from step.common.networks import trained_classifier
        from step.common.predict import not_finite
        from voc12.dataloader import ImagePyramids

        run, runtime = work.run, work.run.runtime
        classifier = runtime.place(trained_classifier(run, backbone)).eval()
        images = ImagePyramids(run.dataset, work.ids, cam_scales)
        for sample in read_ahead(runtime, images, batch_size=None):
            class_ids = run.class_ids(sample["image_id"])
            with torch.no_grad(), runtime.accelerator.autocast():
                maps = [
                    classifier.cams_of_pair(level.to(runtime.device, non_blocking=True))
                    for level in sample["levels"]
                ]
            height, width = sample["image"].shape[:2]
            cam, high_res = combine_scales(maps, (height, width), class_ids.tolist())
            cams = Cams(class_ids, cam.cpu().numpy(), high_res.cpu().numpy())
            if not all(np.isfinite(each).all() for each in (cams.cam, cams.high_res)):
                raise not_finite(run, "the classifier", sample["image_id"], CAM_WEIGHTS)
            with atomic_write(work.files.file(sample["image_id"])) as file:
                write_irn(file, cams, cam_dtype, high_res=cam_high_res)
            yield
