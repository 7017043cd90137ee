"""CAM files as their publishers write them: one writer a dialect."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.helpers.sets import write_map

# folder, image id, classes from 0, float32 maps (K,H,W) 0..1
Writer = Callable[[Path, str, list[int], np.ndarray], None]


def save(path: Path, content: Any) -> Path:
    """np.save of a pickled object, in its array without dimensions."""
    box = np.empty((), object)
    box[()] = content
    np.save(path, box, allow_pickle=True)
    return path


def with_background(maps: np.ndarray) -> np.ndarray:
    return np.concatenate([np.full_like(maps[:1], 0.3), maps])


def write_irn(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """IRN, BES, SBE, AdvCAM, RIB, ReCAM."""
    cam = torch.from_numpy(np.ascontiguousarray(maps[:, ::4, ::4]))
    content = {"keys": torch.tensor(classes), "cam": cam, "high_res": maps}
    save(folder / f"{image_id}.npy", content)


def write_amn(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """AMN: the background is a map without a key."""
    full = with_background(maps)
    cam = torch.from_numpy(np.ascontiguousarray(full[:, ::4, ::4]))
    save(folder / f"{image_id}.npy", {"keys": classes, "cam": cam, "high_res": full})


def write_sipe(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """SIPE: the background is a key."""
    keys = np.array([0] + [c + 1 for c in classes])
    save(folder / f"{image_id}.npy", {"keys": keys, "IS_CAM": with_background(maps)})


def write_psa(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """PSA, SEAM, EPS, L2G, MCTformer, EDAM."""
    save(folder / f"{image_id}.npy", dict(zip(classes, maps.astype(np.float64), strict=True)))


def write_psa_crf(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """PSA's, SEAM's and EPS's CRF folders: probabilities, the background among them."""
    keys = [0] + [c + 1 for c in classes]
    save(folder / f"{image_id}.npy", dict(zip(keys, with_background(maps), strict=True)))


def write_toco(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """ToCo, AFA."""
    save(folder / f"{image_id}.npy", {"keys": np.array(classes), "high_res": maps})


def write_clip_es(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """CLIP-ES: half precision, classes in no order."""
    unsorted = {"keys": np.array(classes[::-1]), "attn_highres": maps[::-1].astype(np.float16)}
    save(folder / f"{image_id}.npy", unsorted)


def write_drs(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """DRS: every class, at the size its network saw."""
    full = np.zeros((20, 320, 320), np.uint8)
    for class_id, values in zip(classes, maps, strict=True):
        full[class_id] = np.asarray(
            Image.fromarray(np.rint(values * 255).astype(np.uint8)).resize(
                (320, 320), Image.Resampling.BILINEAR
            )
        )
    np.save(folder / f"{image_id}.npy", full)


def write_oaa_png(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """OAA, NSROM, L2G, WSSS-BED."""
    for class_id, values in zip(classes, maps, strict=True):
        write_map(folder / f"{image_id}_{class_id}.png", values)


WRITERS: dict[str, Writer] = {
    "irn": write_irn,
    "amn": write_amn,
    "sipe": write_sipe,
    "psa": write_psa,
    "psa_crf": write_psa_crf,
    "toco": write_toco,
    "clip_es": write_clip_es,
    "drs": write_drs,
    "oaa_png": write_oaa_png,
}
