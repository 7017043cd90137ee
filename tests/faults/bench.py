"""The bench: a tiny dataset, a finished run on it, and one of every kind of input, by name.

`build` makes it once; each probe damages a copy of its own.
"""

import contextlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

import net.segmentation_losses
import run_sample
from misc.images import read_mask, write_palette_png
from tests.helpers.cam_writers import WRITERS, save
from tests.helpers.coco import every_kind
from tests.helpers.onnx_models import brightness_model
from tests.helpers.regions import write_json, write_map, write_pngs
from tests.helpers.segmentation import SEG_FLAGS, SEG_STEPS, TRAIN_ONLY
from tests.helpers.tiny import TINY, TINY_FLAGS
from voc12.classes import VOC_CLASSES
from voc12.drawn import draw_dataset
from voc12.files import VocDataset
from voc12.image_labels import class_ids_of, read_tags
from voc12.lists import split_ids

FLAGS = [*TINY_FLAGS, "--backbone=squeezenet1_0", *SEG_FLAGS]


def build(here: Path) -> None:
    """Make everything in the folder `here`; this takes 15 s."""
    voc = here / "voc"
    draw_dataset(voc, **TINY, seed=3)
    dataset = VocDataset.open(voc)
    ids = [*split_ids(dataset, "train"), *split_ids(dataset, "val")]
    tags = read_tags(dataset, ids)
    _write_tags(here, tags)
    few = ids[:3]
    (voc / "ImageSets" / "Segmentation" / "few.txt").write_text("\n".join(few) + "\n")
    for dialect, write in WRITERS.items():
        (here / "cams" / dialect).mkdir(parents=True)
        for image_id in ids if dialect == "irn" else few:
            classes = (class_ids_of(tags[image_id]) - 1).tolist()
            mask = read_mask(dataset.mask_path(image_id))
            maps = np.stack([0.1 + 0.8 * (mask == c + 1) for c in classes]).astype(np.float32)
            write(here / "cams" / dialect, image_id, classes, maps)
    for number, image_id in enumerate(ids):
        mask = read_mask(dataset.mask_path(image_id))
        regions = [mask == value for value in np.unique(mask)]
        (write_pngs, write_json, write_map)[number % 3](here / "sam", image_id, regions)
        for name in ("theirs", "masks"):
            (here / name).mkdir(exist_ok=True)
            write_palette_png(here / name / f"{image_id}.png", np.where(mask == 255, 0, mask))
    (here / "logits").mkdir()
    for image_id in few[:2]:
        save(
            here / "logits" / f"{image_id}.npy", {"msc_seg": np.zeros((1, 21, 60, 80), np.float32)}
        )
    (here / "theirs" / "card.json").write_text(json.dumps({"made_by": "them", "seeds": "0"}))
    (here / "model.onnx").write_bytes(brightness_model())
    every_kind(here / "coco").write()
    for name in ("photos/mug", "photos/spoon"):
        (here / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (32, 24), "red").save(here / name / f"photo {name[-3:]}{number}.jpg")
    _run(here, "out", "--panels=1")
    _run(here, "out_seg", SEG_STEPS)
    _run(
        here, "out_bench", "--steps=benchmark", "--benchmark_cams=own=cams/irn",
        "--benchmark_choose_images=4",
    )  # fmt: skip
    _run(
        here, "out_maps", "--saliency=make", "--saliency_model=model.onnx", "--steps=make_saliency"
    )
    _run(here, "out_sam", "--steps=refine_masks", "--sem_seg_out_dir=out/sem_seg", "--sam_root=sam")
    _stop_training(here)
    for notes in here.glob("*/.sbe"):
        shutil.rmtree(notes)


def _write_tags(here: Path, tags: dict[str, Any]) -> None:
    names = {i: [VOC_CLASSES[k - 1] for k in class_ids_of(tags[i])] for i in tags}
    lines = ["id,class", *(",".join([i, *names[i]]) for i in names)]
    (here / "tags.csv").write_text("\n".join(lines) + "\n")
    listed = (f"{i} {' '.join(str(k - 1) for k in class_ids_of(tags[i]))}\n" for i in tags)
    (here / "tags.txt").write_text("".join(listed))
    save(here / "tags.npy", tags)


def _run(here: Path, out_dir: str, *flags: str, status: int = 0) -> None:
    with (
        contextlib.chdir(here) if hasattr(contextlib, "chdir") else _chdir(here),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()) as said,
    ):
        arguments = [f"--data_root={here / 'voc'}", f"--out_dir={out_dir}", *FLAGS, *flags]
        assert run_sample.main(arguments) == status, said.getvalue()


@contextlib.contextmanager
def _chdir(here: Path) -> Any:
    before = Path.cwd()
    os.chdir(here)
    try:
        yield
    finally:
        os.chdir(before)


def _stop_training(here: Path) -> None:
    """`stopped`: a training that Ctrl-C stopped after two of four updates, with its checkpoint."""
    calls, real = 0, net.segmentation_losses.segmentation_loss

    def loss(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    with mock.patch.object(net.segmentation_losses, "segmentation_loss", loss):
        _run(here, "stopped", *TRAIN_ONLY, status=130)
