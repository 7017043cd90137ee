"""What the per-image benchmarks run on: a photograph of 500x375, as arrays and as a dataset."""

import contextlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

import run_sample
from misc.cam_files import Cams, write_irn
from misc.cam_files.maps import derive_cam, resize
from misc.codes import VOID
from misc.images import write_palette_png
from misc.weights import save_weights
from net.backbone import build_backbone
from net.boundary import BoundaryNetwork
from net.cam import CamClassifier
from tests.helpers.paths import GOLDEN

PHOTOGRAPH = "2007_000011"
QUICK_SCALE = 0.2
LABEL_SYNTHESIS = ("make_confident_regions", "make_boundary_label")  # what the latter asks for
NUM_CLASSES = 20
BLUR = 0.06  # of an image's longer side: what is left of an object is a blob, as in a CAM


class Picture(NamedTuple):
    """A photograph (H,W,3), its saliency and exact mask (H,W) uint8, full-size CAMs (K,H,W)."""

    image: np.ndarray
    saliency: np.ndarray
    mask: np.ndarray
    cam: np.ndarray
    class_ids: np.ndarray


def read_picture(scale: float = 1.0, num_classes: int | None = None) -> Picture:
    """The recorded photograph with sides times `scale`; with so many CAMs, shifted copies of its.

    The exact mask's classes are those that have CAMs, so that its tags name them.
    """
    with np.load(GOLDEN / "decoded_voc.npz") as arrays:
        image, saliency, mask = (arrays[f"{PHOTOGRAPH}/{name}"] for name in ("img", "sal", "gt"))
    with np.load(GOLDEN / "plugged_cams" / f"{PHOTOGRAPH}.npz") as arrays:
        cam, class_ids = arrays["high_res"], arrays["keys"] + 1
    picture = Picture(image, saliency, mask, cam, class_ids)
    if scale != 1:
        height, width = (round(length * scale) for length in mask.shape)
        picture = resize_picture(picture, height, width)
    if num_classes is not None:
        class_ids = np.arange(1, num_classes + 1)
        cam = picture.cam
        cam = np.stack([np.roll(cam[k % len(cam)], 17 * k, 1) for k in range(num_classes)])
        picture = picture._replace(cam=cam, class_ids=class_ids)
    return picture


def resize_picture(picture: Picture, height: int, width: int) -> Picture:
    """All parts of a picture at another size."""
    size = (width, height)
    return Picture(
        np.array(Image.fromarray(picture.image).resize(size, Image.Resampling.BICUBIC)),
        np.array(Image.fromarray(picture.saliency).resize(size, Image.Resampling.BILINEAR)),
        np.array(Image.fromarray(picture.mask).resize(size, Image.Resampling.NEAREST)),
        resize(picture.cam, (height, width)),
        picture.class_ids,
    )


def blurred_cams(mask: np.ndarray) -> Cams:
    """Each class of an exact mask (H,W) as a blob with a maximum of 1."""
    class_ids = np.setdiff1d(mask, [0, VOID]).astype(np.int64)
    maps = np.stack([(mask == class_id).astype(np.float32) for class_id in class_ids])
    blurred = gaussian_filter(maps, (0, *[BLUR * max(mask.shape)] * 2))
    high_res = blurred / blurred.max((1, 2), keepdims=True)
    return Cams(class_ids, derive_cam(high_res), high_res)


def write_dataset(root: Path, count: int, picture: Picture) -> list[str]:
    """Write `count` images, all of `picture`, as a dataset `voc` and CAMs `cam` below `root`."""
    ids = prepare_dataset(root, count)
    write_picture(root, ids[0], picture)
    for image_id in ids[1:]:
        link_picture(root, ids[0], image_id)
    return ids


def prepare_dataset(root: Path, count: int) -> list[str]:
    """Folders and lists of a dataset of `count` images; returns their ids."""
    for path in (*_files_of(root, "").values(), root / "voc" / "ImageSets" / "Segmentation" / "x"):
        path.parent.mkdir(parents=True)
    ids = [f"{index:06d}" for index in range(count)]
    for split in ("train", "train_aug", "val"):
        path = root / "voc" / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.write_text("\n".join(ids) + "\n")
    return ids


def _files_of(root: Path, image_id: str) -> dict[str, Path]:
    voc = root / "voc"
    return {
        "image": voc / "JPEGImages" / f"{image_id}.jpg",
        "saliency": voc / "Sal" / f"{image_id}.png",
        "mask": voc / "SegmentationClass" / f"{image_id}.png",
        "cam": root / "cam" / f"{image_id}.npy",
    }


def write_picture(root: Path, image_id: str, picture: Picture) -> None:
    """Write the files of one image into the folders of `prepare_dataset`."""
    files = _files_of(root, image_id)
    Image.fromarray(picture.image).save(files["image"], quality=95)
    Image.fromarray(picture.saliency).save(files["saliency"])
    write_palette_png(files["mask"], picture.mask)
    with open(files["cam"], "wb") as file:
        write_irn(file, Cams(picture.class_ids, derive_cam(picture.cam), picture.cam))


def link_picture(root: Path, image_id: str, new_id: str) -> None:
    """Show the files of `image_id` under another id."""
    others = _files_of(root, new_id)
    for name, path in _files_of(root, image_id).items():
        os.link(path, others[name])


def run_steps(steps: Sequence[str], root: Path, out_dir: Path, *flags: str) -> dict[str, Any]:
    """Run some steps on `write_dataset`'s files through the command line.

    Returns:
        step -> what scores.json and run.json say of it, with `seconds` and `images`. A name may
        stand for two steps: `LABEL_SYNTHESIS`.
    """
    arguments = [
        f"--voc12_root={root / 'voc'}", f"--out_dir={out_dir}", f"--steps={','.join(steps)}",
        "--panels=0", "--report=no", "--tags_from=masks", *flags,
    ]  # fmt: skip
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()) as stderr,
    ):
        status = run_sample.main(arguments)
    if status != 0:
        raise RuntimeError(f"{steps} ended with status {status}:\n{stderr.getvalue()}")
    scores, how = (json.loads((out_dir / f"{name}.json").read_text()) for name in ("scores", "run"))
    return {step: made | scores[step] for step, made in how["steps"].items() if step in scores}


def run_step(step: str, root: Path, out_dir: Path, *flags: str) -> dict[str, Any]:
    """Run one step as `run_steps` does; what scores.json says of it."""
    return run_steps([step], root, out_dir, *flags)[step]


def backbone_name(quick: bool) -> str:
    """ResNet-50, or what takes less."""
    return "resnet18" if quick else "resnet50"


def build_network(kind: type[BoundaryNetwork] | type[CamClassifier], name: str) -> Any:
    """A network with drawn weights, the same at every call; time does not depend on them."""
    torch.manual_seed(0)
    backbone = build_backbone(name, fixed_batch_norm=True)
    network = (
        CamClassifier(backbone, NUM_CLASSES) if kind is CamClassifier else BoundaryNetwork(backbone)
    )
    return network.eval()


def reference_network(kind: type[BoundaryNetwork] | type[CamClassifier], name: str) -> Any:
    """The same network run as the reference runs it: channels first, every batch norm by itself."""
    network = build_network(kind, name).to(memory_format=torch.contiguous_format)
    network.frozen_backbone = network.backbone.forward
    return network


def write_backbone_weights(name: str, path: Path) -> Path:
    """Save a drawn backbone that can be trained: small norms keep its features in range."""
    torch.manual_seed(0)
    backbone = build_backbone(name, fixed_batch_norm=True)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 0.3)
    return write_weights(backbone, path)


def write_weights(network: nn.Module, path: Path) -> Path:
    """Save the weights where a step will find them; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(network, path)
    return path
