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


def write_pot(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """POT: its own labels use IS_CAM1; IS_CAM is something else."""
    keys = np.array([0] + [c + 1 for c in classes])
    arrays = {"IS_CAM": with_background(maps[:, ::-1] ** 2), "IS_CAM1": with_background(maps)}
    save(folder / f"{image_id}.npy", {"keys": keys, **arrays})


def write_sfc(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """SFC: POT's fields, the foreground doubled, the background raised by 0.4."""
    keys = np.array([0] + [c + 1 for c in classes])
    raised = with_background(2 * maps)
    raised[0] += 0.4
    save(folder / f"{image_id}.npy", {"keys": keys, "IS_CAM": raised, "IS_CAM1": raised})


def write_more(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """MoRe: the maps of the tags' classes; one more is predicted."""
    predicted = np.array([*classes, 1 + max(classes)])
    keys = {"keys": predicted, "keys_gt": np.array(classes)}
    save(folder / f"{image_id}.npy", {**keys, "valid_lam": maps})


def write_excel(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """ExCEL: row 0 is the background, which has no key."""
    content = {"keys_gt": np.array(classes), "valid_lam": with_background(maps)}
    save(folder / f"{image_id}.npy", content)


def resized(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    pictures = (
        Image.fromarray(each).resize(size[::-1], Image.Resampling.BILINEAR) for each in maps
    )
    return np.stack([np.asarray(picture) for picture in pictures])


def write_fma(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """FMA-WSSS: on the grid of CLIP's patches, here of 4 pixels, since test images are small."""
    grid = (-(-maps.shape[1] // 4), -(-maps.shape[2] // 4))
    logits = np.zeros((1, 20), np.float32)
    content = {"cam": resized(maps, grid), "fg_cls": np.array(classes), "logits": logits}
    np.savez(folder / f"{image_id}.npz", **content)  # type: ignore[arg-type]


def write_cti(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """CTI: PSA's dict, at the size of the network's input."""
    save(folder / f"{image_id}.npy", dict(zip(classes, resized(maps, (224, 224)), strict=True)))


def write_psa(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """PSA, SEAM, EPS, L2G, MCTformer, EDAM, WeakTr, S2C."""
    save(folder / f"{image_id}.npy", dict(zip(classes, maps.astype(np.float64), strict=True)))


def write_psa_crf(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """PSA's, SEAM's and EPS's CRF folders: probabilities, the background among them."""
    keys = [0] + [c + 1 for c in classes]
    save(folder / f"{image_id}.npy", dict(zip(keys, with_background(maps), strict=True)))


def write_toco(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """ToCo, AFA."""
    save(folder / f"{image_id}.npy", {"keys": np.array(classes), "high_res": maps})


def write_clip_es(folder: Path, image_id: str, classes: list[int], maps: np.ndarray) -> None:
    """CLIP-ES, WeCLIP: half precision, classes in no order."""
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
    "pot": write_pot,
    "sfc": write_sfc,
    "more": write_more,
    "excel": write_excel,
    "psa": write_psa,
    "psa_crf": write_psa_crf,
    "cti": write_cti,
    "toco": write_toco,
    "clip_es": write_clip_es,
    "drs": write_drs,
    "fma": write_fma,
    "oaa_png": write_oaa_png,
}
