"""CAM files of every dialect."""

from typing import Any

import numpy as np

from misc.cam_files import CAM_FORMATS
from tests.faults.damage import (
    array,
    both,
    changed_fields,
    copied,
    cut,
    dangling,
    device,
    empty,
    fifo,
    flipped,
    folder,
    for_each,
    gone,
    nothing,
    picture,
    raw,
    text,
    unreadable,
)
from tests.faults.probe import DONE, REFUSED, Probe, probe
from tests.faults.table.tags import EVIL
from tests.helpers.pickles import F4, array_pickle, as_npy, boxed_pickle

IRN = "cams/irn/2007_000003.npy"
OURS = "out/cam/2007_000003.npy"
PLAIN_USER = {"plain_user": True}
LABELS = "--steps make_boundary_label --train_aug_list few --out_dir new"
THEIRS = f"{LABELS} --cam_out_dir cams/irn"
FROM_OURS = "--steps make_boundary_label --boundary_label_dir new --cam_vis_dir new_vis"
FIELDS = {  # dialect -> the file, and the field that a probe spoils
    "irn": "high_res", "amn": "high_res", "sipe": "IS_CAM", "pot": "IS_CAM1", "sfc": "IS_CAM1",
    "toco": "high_res", "clip_es": "attn_highres", "more": "valid_lam", "excel": "valid_lam",
}  # fmt: skip


def of(dialect: str) -> str:
    """What reads the CAMs of a dialect."""
    return f"{LABELS} --cam_out_dir cams/{dialect} --cam_format {dialect}"


def spoiled(value: float) -> Any:
    def spoil(maps: Any) -> Any:
        changed = np.array(maps)
        changed[..., 5, 5] = value
        return changed

    return spoil


def _of_dialects() -> list[Probe]:
    """Each dialect with its field spoiled in one way: a file of one is not like that of another."""
    probes = []
    for dialect, field in FIELDS.items():
        path = f"cams/{dialect}/2007_000003.npy"
        needed = "keys" if dialect in ("irn", "amn") else field
        damaged = changed_fields(path, **{field: spoiled(np.nan)})
        probes += [
            probe(f"{dialect}: NaN in {field}", damaged, of(dialect), REFUSED, path, "NaN"),
            probe(f"{dialect}: no field {needed}", changed_fields(path, **{needed: None}), of(dialect), REFUSED, path, needed),
            probe(f"{dialect}: a map too many", changed_fields(path, **{field: lambda old: np.concatenate([old, old, old])}), of(dialect), REFUSED, path),
        ]
    for dialect in ("psa", "psa_crf", "cti"):
        path = f"cams/{dialect}/2007_000003.npy"
        probes += [
            probe(f"{dialect}: a list of maps", array(path, np.zeros((2, 60, 80))), of(dialect), REFUSED, path),
            probe(f"{dialect}: cut", cut(path), of(dialect), REFUSED, path),
        ]
    assert {p.name.split(":")[0] for p in probes} | {"auto", "drs", "fma", "oaa_png"} == {*CAM_FORMATS}
    return probes


def larger(by: int) -> Any:
    return lambda keys: [int(k) + by for k in keys]


PROBES = (
    *_of_dialects(),
    probe("drs: of another size", array("cams/drs/2007_000003.npy", np.zeros((20, 7, 7), np.uint8)), of("drs"), REFUSED, "cams/drs/2007_000003.npy"),
    probe("drs: too few classes", array("cams/drs/2007_000003.npy", np.zeros((19, 320, 320), np.uint8)), of("drs"), REFUSED, "cams/drs/2007_000003.npy"),
    probe("drs: floats", array("cams/drs/2007_000003.npy", np.zeros((20, 320, 320))), of("drs"), REFUSED, "cams/drs/2007_000003.npy"),
    probe("fma: cut", cut("cams/fma/2007_000003.npz"), of("fma"), REFUSED, "cams/fma/2007_000003.npz"),
    probe("fma: damaged bytes", flipped("cams/fma/2007_000003.npz"), of("fma"), REFUSED, "cams/fma/2007_000003.npz"),
    probe("fma: is text", text("cams/fma/2007_000003.npz", "PK"), of("fma"), REFUSED, "cams/fma/2007_000003.npz"),
    probe("oaa_png: cut", for_each("cams/oaa_png/2007_000003_*.png", cut), of("oaa_png"), REFUSED, "cams/oaa_png/2007_000003_"),
    probe("oaa_png: damaged bytes", for_each("cams/oaa_png/2007_000003_*.png", flipped), of("oaa_png"), REFUSED, "cams/oaa_png/2007_000003_"),
    probe("oaa_png: of another size", for_each("cams/oaa_png/2007_000003_*.png", lambda p: picture(p, "L", (7, 7))), of("oaa_png"), REFUSED, "cams/oaa_png/2007_000003_"),
    probe("oaa_png: in colour", for_each("cams/oaa_png/2007_000003_*.png", lambda p: picture(p, "RGB")), of("oaa_png"), REFUSED, "cams/oaa_png/2007_000003_"),
    probe("oaa_png: an unknown class", copied("cams/oaa_png/2007_000003_7.png", "cams/oaa_png/2007_000003_20.png"), of("oaa_png"), REFUSED, "cams/oaa_png/2007_000003_7.png", "unknown class 20"),
    probe("oaa_png: an image without a file", for_each("cams/oaa_png/2007_000003_*.png", gone), of("oaa_png"), DONE, "1 of 3 images", "2007_000003"),
    # One dialect in the place of another
    probe("irn read as clip_es", nothing, f"{THEIRS} --cam_format clip_es", REFUSED, "cams/irn", "attn_highres"),
    probe("irn read as psa", nothing, f"{THEIRS} --cam_format psa", REFUSED, "cams/irn"),
    probe("irn read as sipe", nothing, f"{THEIRS} --cam_format sipe", REFUSED, "cams/irn"),
    probe("psa read as psa_crf", nothing, f"{LABELS} --cam_out_dir cams/psa --cam_format psa_crf", REFUSED, "cams/psa"),
    probe("psa_crf read as psa", nothing, f"{LABELS} --cam_out_dir cams/psa_crf --cam_format psa", REFUSED, "cams/psa_crf"),
    probe("drs without its flag, as a mask", array("cams/irn/2007_000003.npy", np.zeros((60, 80), np.uint8)), THEIRS, REFUSED, IRN),
    probe("scores of a network in place of CAMs", copied("logits/2007_000001.npy", IRN), THEIRS, REFUSED, IRN, "misc.mask_files"),
    probe("dialects mixed in a folder", copied("cams/sipe/2007_000003.npy", IRN), f"{THEIRS} --cam_format irn", REFUSED, IRN),
    # The file
    probe("CAMs missing of one image", gone(IRN), THEIRS, REFUSED, "cams/irn", "2007_000003"),
    probe("our CAMs missing of one image", gone(OURS), FROM_OURS, REFUSED, "out/cam", "2007_000003", "make_cam"),
    probe("CAM empty", empty(IRN), THEIRS, REFUSED, IRN),
    probe("CAM cut", cut(IRN), THEIRS, REFUSED, IRN),
    probe("CAM with damaged bytes", flipped(IRN, 0.3), THEIRS, REFUSED, IRN),
    probe("CAM is text", text(IRN, "cam"), THEIRS, REFUSED, IRN),
    probe("CAM is a folder", folder(IRN), THEIRS, REFUSED, IRN),
    probe("CAM is a pipe", fifo(IRN), THEIRS, REFUSED, IRN),
    probe("CAM is a device", device(IRN), THEIRS, REFUSED, IRN),
    probe("CAM is a link to nowhere", dangling(IRN), THEIRS, REFUSED, "2007_000003"),
    probe("CAM may not be read", unreadable(IRN), THEIRS, REFUSED, IRN, "ermission", options=PLAIN_USER),
    probe("CAM runs a program", raw(IRN, as_npy(EVIL)), THEIRS, REFUSED, IRN),
    probe("CAM claims 10 GB", raw(IRN, as_npy(array_pickle(b"(J\x00\x00\x10\x00J\x00\x00\x10\x00t", F4, b"C\x04\x00\x00\x80?"))), THEIRS, REFUSED, IRN),
    probe("CAM is a number", raw(IRN, as_npy(boxed_pickle(b"K\x01"))), THEIRS, REFUSED, IRN),
    probe("CAM of zeros, a plain array", array(IRN, np.zeros((1, 3))), THEIRS, REFUSED, IRN),
    probe("our CAM cut", cut(OURS), FROM_OURS, REFUSED, OURS, begins=True),
    probe("our CAM with damaged bytes", flipped(OURS, 0.01, 4), FROM_OURS, REFUSED, OURS, begins=True),
    probe("our CAM empty", empty(OURS), "--steps eval_cam --chainer_eval_set few", REFUSED, OURS, begins=True),
    probe("our CAM is a pipe", fifo(OURS), FROM_OURS, REFUSED, OURS, begins=True),
    probe("our CAM is of another image", copied("out/cam/2007_000001.npy", OURS), FROM_OURS, REFUSED, OURS, begins=True),
    # Values
    probe("CAM above 1", changed_fields(IRN, high_res=spoiled(1.5)), THEIRS, REFUSED, IRN, "1.5"),
    probe("CAM below 0", changed_fields(IRN, high_res=spoiled(-0.5)), THEIRS, REFUSED, IRN, "-0.5"),
    probe("CAM infinite", changed_fields(IRN, high_res=spoiled(np.inf)), THEIRS, REFUSED, IRN),
    probe("CAM of stride 4 with NaN", changed_fields(IRN, cam=spoiled(np.nan)), THEIRS, REFUSED, IRN, "NaN"),
    probe("CAM of whole numbers up to 255", changed_fields(IRN, high_res=lambda old: (255 * old).astype(np.uint8)), THEIRS, REFUSED, IRN),
    probe("CAM of words", changed_fields(IRN, high_res=lambda old: old.astype(str)), THEIRS, REFUSED, IRN),
    probe("CAM complex", changed_fields(IRN, high_res=lambda old: old.astype(complex)), THEIRS, REFUSED, IRN),
    probe("CAM of another size", changed_fields(IRN, high_res=lambda old: old[:, 1:]), THEIRS, REFUSED, IRN),
    probe("CAM turned", changed_fields(IRN, high_res=lambda old: old.swapaxes(1, 2)), THEIRS, REFUSED, IRN),
    probe("CAM without its first axis", changed_fields(IRN, high_res=lambda old: old[0]), THEIRS, REFUSED, IRN),
    probe("CAM with an unknown class", changed_fields(IRN, keys=larger(20)), THEIRS, REFUSED, IRN, "class"),
    probe("CAM with a negative class", changed_fields(IRN, keys=larger(-20)), THEIRS, REFUSED, IRN),
    probe("CAM with a class twice", changed_fields(IRN, keys=lambda old: [1, 1], cam=lambda old: np.concatenate([old, old]), high_res=lambda old: np.concatenate([old, old])), THEIRS, REFUSED, IRN, "twice"),
    probe("CAM with a word for a class", changed_fields(IRN, keys=lambda old: ["cat"] * len(old)), THEIRS, REFUSED, IRN),
    probe("CAMs without classes in all files", for_each("cams/irn/*", lambda p: changed_fields(p, keys=lambda _: [], cam=lambda old: np.zeros((0, *old.shape[1:])), high_res=lambda old: old[:0])), THEIRS, DONE, "cams/irn: the CAMs of 3 images", "have no class"),
    # Classes that are not those of the tags
    probe("CAMs numbered from 1", for_each("cams/irn/*", lambda p: changed_fields(p, keys=larger(1))), "--steps make_boundary_label --out_dir new --cam_out_dir cams/irn", REFUSED, "cams/irn", "tags lack", "too high"),
    probe("CAMs of other classes in one image", changed_fields(IRN, keys=larger(1)), THEIRS, DONE, "cams/irn", "1 of", "tags lack"),
    probe("--cam_ids coco91 for 20 classes", nothing, f"{THEIRS} --cam_ids coco91", REFUSED, "--cam_ids coco91"),
    # The folder
    probe("--cam_out_dir of masks", nothing, "--steps make_cam --out_dir new --cam_out_dir theirs", REFUSED, "--cam_out_dir theirs", "--seg_label_dir"),
    probe("--cam_out_dir of photographs", nothing, f"{LABELS} --cam_out_dir voc/JPEGImages", REFUSED, "--cam_out_dir voc/JPEGImages", "dataset"),
    probe("--cam_out_dir is a file", nothing, f"{LABELS} --cam_out_dir tags.csv", REFUSED, "--cam_out_dir tags.csv", "is a file"),
    probe("--cam_out_dir that does not exist", nothing, f"{LABELS} --cam_out_dir nowhere", REFUSED, "nowhere", "make_cam"),
    probe("their CAMs changed after the run", both(copied("cams/irn", "c"), copied("cams/irn/2007_000002.npy", "c/2007_000003.npy")), f"{LABELS} --cam_out_dir c", REFUSED, "c/2007_000003.npy"),
)
