"""What a run left behind, and what is plugged in instead: labels, walks, masks, weights, records."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tests.faults.damage import (
    Damage,
    array,
    both,
    changed_fields,
    changed_json,
    copied,
    cut,
    dangling,
    device,
    edited,
    empty,
    fifo,
    flipped,
    folder,
    gone,
    moved,
    nothing,
    picture,
    pixels,
    raw,
    read_only,
    replaced,
    text,
    unreadable,
)
from tests.faults.probe import DONE, REFUSED, probe
from tests.faults.table.tags import EVIL

PLAIN_USER = {"plain_user": True}
LABEL = "labels/2007_000003.png"
THEIR_LABELS = copied("out/boundary_label", "labels")
BES = "--steps train_bes --bes_weights_name new.pth --bes_num_epoches 1"
LABELLED = f"{BES} --boundary_label_dir labels"
WALK = "out/walk/2007_000003.npy"
MASKS = "--steps make_sem_seg --sem_seg_out_dir new"
THEIR_WALK = both(copied("out/walk", "walks"), gone("walks/settings.json"))
WALKED = f"{MASKS} --walk_out_dir walks"
PSEUDO = "out/sem_seg/2007_000003.png"
SCORES = "--steps eval_sem_seg"
THEIRS = "theirs/2007_000003.png"
SEG = "--steps train_seg --seg_weights_name new.pth --seg_val_every 0"
SEG_THEIRS = f"{SEG} --seg_label_dir theirs"
CAM_PTH, BES_PTH, SEG_PTH = "out/weights/cam.pth", "out/weights/bes.pth", "out_seg/weights/seg.pth"
CAMS = "--steps make_cam --cam_out_dir new"
THEIR_WEIGHTS = both(copied(CAM_PTH, "w.pth"))
WEIGHTS = f"{CAMS} --cam_weights_name w.pth"
BACKBONE = "--steps train_cam --cam_weights_name new.pth --cam_num_epoches 1 --backbone_weights w.pth"
WALKS = "--steps make_walk --walk_out_dir new"
GO_ON = "--steps train_seg --out_dir stopped --seg_val_every 0"
CHECKPOINT = "stopped/weights/seg.pth.new/checkpoint"
BEGUN = "stopped/weights/seg.pth.new/settings.json"
RECORD = "out/walk/settings.json"
CAM_RECORD = "out/weights/cam.pth.json"
SCORE_FILE = "out/scores.json"
SAM = "--steps refine_masks --sam_root sam --refined_out_dir new"
MODEL = "--steps make_saliency --saliency make --saliency_model model.onnx --out_dir new"
BENCH = "--steps benchmark --out_dir out_bench --benchmark_cams own=cams/irn --benchmark_choose_images 4"
COUNTS = "out_bench/benchmark/counts/own/own.npz"


def nan_weights(path: str) -> Damage:
    """A file of weights holds NaN, as after a training that diverged."""

    def spoil(old: bytes) -> bytes:
        state = torch.load(io.BytesIO(old), weights_only=True)
        for value in state.values():
            if value.is_floating_point() and value.ndim:
                value[:] = float("nan")
        file = io.BytesIO()
        torch.save(state, file)
        return file.getvalue()

    return edited(path, spoil)


def state_of(path: str, change: Callable[[Any], Any]) -> Damage:
    """A file of torch holds something else."""

    def edit(old: bytes) -> bytes:
        state = torch.load(io.BytesIO(old), weights_only=True)
        file = io.BytesIO()
        torch.save(change(state), file)
        return file.getvalue()

    return edited(path, edit)


def later(record: dict[str, Any]) -> dict[str, Any]:
    """A record that names files outside its folder."""
    return record | {"complete": ["../../voc/tags.csv"], "weights": "0", "files": ["../../../voc/drawn.json"]}


PROBES = (
    # Boundary labels
    probe("boundary labels of one image missing", gone("out/boundary_label/2007_000003.png"), BES, REFUSED, "out/boundary_label", "2007_000003", "make_boundary_label"),
    probe("their boundary label missing", both(THEIR_LABELS, gone("labels/settings.json"), gone(LABEL)), LABELLED, REFUSED, "labels", "2007_000003"),
    probe("boundary label cut", cut("out/boundary_label/2007_000003.png"), BES, REFUSED, "out/boundary_label/2007_000003.png", begins=True),
    probe("boundary label with damaged pixels", flipped("out/boundary_label/2007_000003.png", 0.6), BES, REFUSED, "out/boundary_label/2007_000003.png", begins=True),
    probe("boundary label is a pipe", fifo("out/boundary_label/2007_000003.png"), BES, REFUSED, "out/boundary_label/2007_000003.png", begins=True),
    probe("their boundary label of another size", both(THEIR_LABELS, gone("labels/settings.json"), picture(LABEL, "L", (30, 30))), LABELLED, REFUSED, LABEL, "30x30"),
    probe("their boundary label of an unknown code", both(THEIR_LABELS, gone("labels/settings.json"), pixels(LABEL, 77)), LABELLED, REFUSED, LABEL, "77"),
    probe("their boundary label with alpha", both(THEIR_LABELS, gone("labels/settings.json"), picture(LABEL, "LA")), LABELLED, REFUSED, LABEL, "mode LA"),
    probe("saliency maps as boundary labels", copied("voc/Sal", "labels"), LABELLED, REFUSED, "labels"),
    probe("exact masks as boundary labels", copied("voc/SegmentationClass", "labels"), LABELLED, REFUSED, "labels"),
    probe("confident regions as boundary labels", both(copied("out/cam_vis", "labels"), gone("labels/settings.json")), LABELLED, REFUSED, "labels"),
    probe("--boundary_label_dir in the dataset", nothing, f"{BES} --boundary_label_dir voc/Sal", REFUSED, "--boundary_label_dir voc/Sal", "dataset"),
    # Walked scores
    probe("walked scores of one image missing", gone(WALK), MASKS, REFUSED, "out/walk", "2007_000003", "make_walk"),
    probe("walked scores empty", empty(WALK), MASKS, REFUSED, WALK, begins=True),
    probe("walked scores cut", cut(WALK), MASKS, REFUSED, WALK, begins=True),
    probe("walked scores with damaged bytes", flipped(WALK, 0.01, 4), MASKS, REFUSED, WALK, begins=True),
    probe("walked scores are text", text(WALK, "0.1"), "--steps eval_walk --chainer_eval_set few", REFUSED, WALK, begins=True),
    probe("walked scores of another image", copied("out/walk/2007_000001.npy", WALK), MASKS, REFUSED, WALK, begins=True),
    probe("walked scores with NaN", changed_fields(WALK, cam=lambda old: np.full_like(old, np.nan)), MASKS, REFUSED, WALK, "NaN", begins=True),
    probe("their walked scores cut", both(THEIR_WALK, cut("walks/2007_000003.npy")), WALKED, REFUSED, "walks/2007_000003.npy"),
    probe("their walked scores with NaN", both(THEIR_WALK, changed_fields("walks/2007_000003.npy", cam=lambda old: np.full_like(old, np.nan))), WALKED, REFUSED, "walks/2007_000003.npy", "NaN"),
    probe("their walked scores run a program", both(THEIR_WALK, raw("walks/2007_000003.npy", EVIL)), WALKED, REFUSED, "walks/2007_000003.npy"),
    probe("their walked scores lack an image", both(THEIR_WALK, gone("walks/2007_000003.npy")), WALKED, REFUSED, "walks", "2007_000003"),
    probe("--walk_out_dir of masks", nothing, f"{MASKS} --walk_out_dir theirs", REFUSED, "theirs"),
    # Masks
    probe("pseudo mask missing", gone(PSEUDO), SCORES, REFUSED, "out/sem_seg", "2007_000003", "make_sem_seg"),
    probe("pseudo mask after the CRF missing", gone("out/sem_seg/2007_000003_crf.png"), SEG + " --seg_label_dir pseudo", REFUSED, "2007_000003"),
    probe("pseudo mask empty", empty(PSEUDO), SCORES + " --chainer_eval_set few", REFUSED, PSEUDO, begins=True),
    probe("pseudo mask cut", cut(PSEUDO), SCORES + " --chainer_eval_set few", REFUSED, PSEUDO, begins=True),
    probe("pseudo mask of another size", picture(PSEUDO, "L", (30, 30)), SCORES + " --chainer_eval_set few", REFUSED, PSEUDO, begins=True),
    probe("their pseudo mask of an unknown class", both(copied("out/sem_seg", "m"), gone("m/settings.json"), pixels("m/2007_000003.png", 77)), SCORES + " --sem_seg_out_dir m --chainer_eval_set few", REFUSED, "m/2007_000003.png", "77"),
    probe("their mask missing", gone(THEIRS), SEG_THEIRS, REFUSED, "theirs", "2007_000003"),
    probe("their mask cut", cut(THEIRS), SEG_THEIRS, REFUSED, THEIRS),
    probe("their mask of another size", picture(THEIRS, "P", (30, 30)), SEG_THEIRS, REFUSED, THEIRS, "30x30"),
    probe("their mask of an unknown class", pixels(THEIRS, 77), SEG_THEIRS, REFUSED, THEIRS, "77"),
    probe("their mask with alpha", picture(THEIRS, "LA"), SEG_THEIRS, REFUSED, THEIRS, "mode LA"),
    probe("their mask in foreign colours", picture("theirs/2007_000003.png", "RGB"), SEG_THEIRS, DONE, "theirs"),
    probe("their masks are photographs", nothing, SEG + " --seg_label_dir voc/JPEGImages", REFUSED, "voc/JPEGImages"),
    probe("their masks are saliency maps", nothing, SEG + " --seg_label_dir voc/Sal", REFUSED, "voc/Sal"),
    probe("--seg_label_dir that does not exist", nothing, SEG + " --seg_label_dir nowhere", REFUSED, "--seg_label_dir", "nowhere"),
    probe("mask of the network cut", cut("out_seg/seg/val/last/2007_000009_crf.png"), "--steps eval_seg --out_dir out_seg --overwrite all", REFUSED, "2007_000009_crf.png", begins=True),
    probe("mask of the network missing", gone("out_seg/seg/val/last/2007_000009_crf.png"), "--steps eval_seg --out_dir out_seg", REFUSED, "2007_000009"),
    # Weights
    probe("weights missing", gone(CAM_PTH), CAMS, REFUSED, CAM_PTH, "train_cam"),
    probe("their weights missing", nothing, WEIGHTS, REFUSED, "w.pth", "--cam_weights_name"),
    probe("their weights empty", empty("w.pth"), WEIGHTS, REFUSED, "w.pth"),
    probe("their weights cut", both(THEIR_WEIGHTS, cut("w.pth")), WEIGHTS, REFUSED, "w.pth"),
    probe("their weights with damaged bytes", both(THEIR_WEIGHTS, flipped("w.pth", 0.0, 4)), WEIGHTS, REFUSED, "w.pth"),
    probe("their weights run a program", raw("w.pth", EVIL), WEIGHTS, REFUSED, "w.pth"),
    probe("their weights are those of another network", copied(SEG_PTH, "w.pth"), WEIGHTS, REFUSED, "w.pth", "do not fit"),
    probe("their weights of the boundary network, for CAMs", copied(BES_PTH, "w.pth"), WEIGHTS, REFUSED, "w.pth", "do not fit"),
    probe("their weights are NaN", both(THEIR_WEIGHTS, nan_weights("w.pth")), WEIGHTS, REFUSED, "w.pth", "NaN"),
    probe("their weights are a list", both(THEIR_WEIGHTS, state_of("w.pth", lambda state: list(state))), WEIGHTS, REFUSED, "w.pth", "no weights"),
    probe("their weights are numbers", both(THEIR_WEIGHTS, state_of("w.pth", lambda state: dict.fromkeys(state, 1))), WEIGHTS, REFUSED, "w.pth", "no weights"),
    probe("their weights lack a layer", both(THEIR_WEIGHTS, state_of("w.pth", lambda state: dict(list(state.items())[1:]))), WEIGHTS, REFUSED, "w.pth", "missing: "),
    probe("their weights are a folder", folder("w.pth"), WEIGHTS, REFUSED, "--cam_weights_name w.pth", "folder"),
    probe("their weights are a pipe", fifo("w.pth"), WEIGHTS, REFUSED, "w.pth"),
    probe("their weights are a device", device("w.pth"), WEIGHTS, REFUSED, "w.pth"),
    probe("their weights may not be read", both(THEIR_WEIGHTS, unreadable("w.pth")), WEIGHTS, REFUSED, "w.pth", "ermission", options=PLAIN_USER),
    probe("our weights cut", cut(CAM_PTH), CAMS, REFUSED, CAM_PTH),
    probe("our weights of the boundary network cut", cut(BES_PTH), WALKS, REFUSED, BES_PTH),
    probe("our weights of the boundary network NaN", nan_weights(BES_PTH), WALKS, REFUSED, BES_PTH, "NaN"),
    probe("our weights of DeepLab cut", cut(SEG_PTH), "--steps make_seg --out_dir out_seg --seg_out_dir new", REFUSED, SEG_PTH),
    probe("our weights of DeepLab NaN", nan_weights(SEG_PTH), "--steps make_seg --out_dir out_seg --seg_out_dir new", REFUSED, SEG_PTH, "NaN"),
    probe("best weights of DeepLab missing", gone("out_seg/weights/seg_best.pth"), "--steps make_seg --out_dir out_seg --seg_out_dir new", DONE, "no best weights", changes=("out_seg/scores.json",)),
    probe("weights of another backbone", nothing, f"{CAMS} --backbone resnet18", REFUSED, CAM_PTH, "same backbone", begins=True),
    probe("weights of a backbone missing", nothing, BACKBONE, REFUSED, "--backbone_weights w.pth"),
    probe("weights of a backbone cut", both(THEIR_WEIGHTS, cut("w.pth")), BACKBONE, REFUSED, "--backbone_weights", "w.pth"),
    probe("weights of a backbone are NaN", both(THEIR_WEIGHTS, nan_weights("w.pth"), state_of("w.pth", lambda state: {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")})), BACKBONE, REFUSED, "w.pth", "NaN"),
    probe("weights of a backbone are a picture", copied("voc/Sal/2007_000001.png", "w.pth"), BACKBONE, REFUSED, "--backbone_weights", "w.pth"),
    probe("weights of a backbone, which are DeepLab's", copied(SEG_PTH, "w.pth"), BACKBONE, REFUSED, "--backbone_weights", "w.pth"),
    probe("weights of a backbone not to be had", nothing, BACKBONE.replace("w.pth", "imagenet"), REFUSED, "download"),
    probe("--seg_init that does not exist", nothing, f"{SEG} --seg_init nowhere.pth", REFUSED, "--seg_init", "nowhere.pth"),
    probe("--seg_init cut", both(THEIR_WEIGHTS, cut("w.pth")), f"{SEG} --seg_init w.pth", REFUSED, "--seg_init", "w.pth"),
    probe("--seg_init of another backbone", nothing, f"{SEG} --seg_init {SEG_PTH} --seg_backbone resnet18", REFUSED, "--seg_init", "seg.pth"),
    probe("--seg_init cam without a classifier", gone(CAM_PTH), f"{SEG} --seg_init cam", REFUSED, CAM_PTH),
    probe("weights replaced after the run", both(copied(SEG_PTH, "w.pth"), moved("w.pth", CAM_PTH)), "--steps make_cam", REFUSED, "out/weights/cam.pth"),
    # Checkpoints
    probe("checkpoint empty", empty(CHECKPOINT), GO_ON, REFUSED, CHECKPOINT, "Delete", begins=True),
    probe("checkpoint cut", cut(CHECKPOINT), GO_ON, REFUSED, CHECKPOINT, "Delete", begins=True),
    probe("checkpoint with damaged bytes", flipped(CHECKPOINT, 0.0, 4), GO_ON, REFUSED, CHECKPOINT, "Delete", begins=True),
    probe("checkpoint is something else", copied(SEG_PTH, CHECKPOINT), GO_ON, REFUSED, CHECKPOINT, "Delete", begins=True),
    probe("checkpoint of another step", state_of(CHECKPOINT, lambda state: state | {"step": -7}), GO_ON, REFUSED, CHECKPOINT, begins=True),
    probe("checkpoint past the end", state_of(CHECKPOINT, lambda state: state | {"step": 10**6}), GO_ON, REFUSED, CHECKPOINT, begins=True),
    probe("checkpoint with a word for the step", state_of(CHECKPOINT, lambda state: state | {"step": "two"}), GO_ON, REFUSED, CHECKPOINT, begins=True),
    probe("checkpoint without the optimiser", state_of(CHECKPOINT, lambda state: state | {"optimizer": {}}), GO_ON, REFUSED, CHECKPOINT, begins=True),
    probe("checkpoint of another network", state_of(CHECKPOINT, lambda state: state | {"model": {}}), GO_ON, REFUSED, CHECKPOINT, "do not fit", begins=True),
    probe("checkpoint with a list for the network", state_of(CHECKPOINT, lambda state: state | {"model": [1]}), GO_ON, REFUSED, CHECKPOINT, begins=True),
    probe("checkpoint with NaN", state_of(CHECKPOINT, lambda state: state | {"model": {k: v * float("nan") if v.ndim else v for k, v in state["model"].items()}}), GO_ON, REFUSED, "NaN", begins=True),
    probe("checkpoint is a folder", folder(CHECKPOINT), GO_ON, REFUSED, CHECKPOINT, begins=True),
    probe("checkpoint is a pipe", fifo(CHECKPOINT), GO_ON, REFUSED, CHECKPOINT, begins=True),
    probe("training stopped with another seed", nothing, f"{GO_ON} --seed 6", REFUSED, "stopped training", "--seed was 5, is 6"),
    probe("record of a stopped training cut", cut(BEGUN), GO_ON, REFUSED, BEGUN),
    probe("record of a stopped training names foreign files", both(text("voc/tags.csv", "id,class\n"), changed_json(BEGUN, later)), GO_ON, REFUSED, BEGUN),
    # Records
    probe("record empty", empty(RECORD), MASKS, REFUSED, RECORD),
    probe("record cut", cut(RECORD), MASKS, REFUSED, RECORD),
    probe("record is a list", text(RECORD, "[1, 2]"), MASKS, REFUSED, RECORD),
    probe("record is a number", text(RECORD, "7"), MASKS, REFUSED, RECORD),
    probe("record of nothing", text(RECORD, "{}"), MASKS, REFUSED, RECORD),
    probe("record is no UTF-8", raw(RECORD, b'{"settings": "\xff"}'), MASKS, REFUSED, RECORD),
    probe("record with NaN", replaced(RECORD, '"exp_times": 8', '"exp_times": NaN'), "--steps make_walk", REFUSED, "--exp_times was"),
    probe("record nested without end", text(RECORD, "[" * 100000), MASKS, REFUSED, RECORD),
    probe("record with a number of 10000 digits", text(RECORD, '{"settings": {"beta": ' + "9" * 10000 + "}}"), MASKS, REFUSED, RECORD),
    probe("record with a list for the settings", changed_json(RECORD, lambda r: r | {"settings": [1]}), "--steps make_walk", REFUSED, RECORD),
    probe("record with words for the inputs", changed_json(RECORD, lambda r: r | {"inputs": "many"}), "--steps make_walk", REFUSED, RECORD),
    probe("record with unknown fields of an input", changed_json(RECORD, lambda r: r | {"inputs": {"x": {"y": 1}}}), "--steps make_walk", REFUSED, RECORD),
    probe("record with numbers for fingerprints", changed_json(RECORD, lambda r: r | {"images": dict.fromkeys(r["images"], 7)}), "--steps make_walk", REFUSED, RECORD),
    probe("record with a list for the images", changed_json(RECORD, lambda r: r | {"images": [1, 2]}), "--steps make_walk", REFUSED, RECORD),
    probe("record of the weights cut", cut(CAM_RECORD), CAMS, REFUSED, CAM_RECORD),
    probe("record of the weights names a foreign file", changed_json(CAM_RECORD, lambda r: r | {"files": ["../../voc/drawn.json"]}), "--steps train_cam --overwrite all --cam_num_epoches 1", REFUSED, CAM_RECORD, begins=True),
    probe("record is a folder", folder(RECORD), MASKS, REFUSED, RECORD),
    probe("record is a pipe", fifo(RECORD), MASKS, REFUSED, RECORD),
    probe("record may not be read", unreadable(RECORD), MASKS, REFUSED, RECORD, "ermission", options=PLAIN_USER),
    probe("record gone, files there", gone(RECORD), "", REFUSED, "taken as they are", "make_sem_seg"),
    probe("record of another step", copied("out/cam/settings.json", RECORD), "--steps make_walk", REFUSED, "make_walk", "--overwrite"),
    # scores.json and other files of ours
    probe("scores.json empty", empty(SCORE_FILE), "--steps eval_cam", REFUSED, SCORE_FILE),
    probe("scores.json cut", cut(SCORE_FILE), "--steps eval_cam", REFUSED, SCORE_FILE),
    probe("scores.json is a list", text(SCORE_FILE, "[]"), "--steps eval_cam", REFUSED, SCORE_FILE),
    probe("scores.json with words for a step", changed_json(SCORE_FILE, lambda s: s | {"eval_cam": "fine"}), "--steps eval_cam", REFUSED, SCORE_FILE),
    probe("scores.json with a foreign record", changed_json(SCORE_FILE, lambda s: s["eval_cam"].update(made_from={"a": 1})), "--steps eval_cam", DONE, "eval_cam done"),
    probe("scores.json without the loss", changed_json(SCORE_FILE, lambda s: s["train_cam"].pop("loss")), "--steps train_cam", REFUSED, SCORE_FILE, begins=True),
    probe("scores.json with a word for the loss", changed_json(SCORE_FILE, lambda s: s["train_cam"].update(loss="low")), "--steps train_cam", DONE, "scores.json was changed"),
    probe("scores.json without the mIoU", changed_json(SCORE_FILE, lambda s: s["eval_cam"].pop("miou")), "--steps eval_cam", REFUSED, SCORE_FILE),
    probe("scores.json is a folder", folder(SCORE_FILE), "--steps eval_cam", REFUSED, SCORE_FILE),
    probe("scores.json is a pipe", fifo(SCORE_FILE), "--steps eval_cam", REFUSED, SCORE_FILE),
    probe("sources.json of the contact sheets foreign", text("out/panels/sources.json", "[1]"), "--steps eval_cam --panels 1", DONE, "contact sheets out/panels"),
    probe("notes of DeepLab cut", cut("out_seg/weights/seg.pth.notes.json"), "--steps eval_seg --out_dir out_seg --overwrite all", REFUSED, "seg.pth.notes.json", begins=True),
    probe("notes of DeepLab foreign", text("out_seg/weights/seg.pth.notes.json", "{}"), "--steps eval_seg --out_dir out_seg --overwrite all", DONE, "eval_seg done"),
    probe("counts of the benchmark cut", cut(COUNTS), BENCH, DONE, COUNTS, changes=("out_bench",)),
    probe("counts of the benchmark empty", empty(COUNTS), BENCH, DONE, COUNTS, changes=("out_bench",)),
    probe("scores of the benchmark's saliency cut", cut("out_bench/benchmark/saliency/own.json"), BENCH, DONE, "saliency/own.json", changes=("out_bench",)),
    # Segment Anything's regions
    probe("regions of one image missing", gone("sam/2007_000003.npy"), SAM, REFUSED, "2007_000003"),
    probe("regions as PNGs, one cut", cut("sam/2007_000004/1.png"), SAM, REFUSED, "sam/2007_000004/1.png"),
    probe("regions as PNGs, one of another size", picture("sam/2007_000004/1.png", "L", (7, 7)), SAM, REFUSED, "sam/2007_000004/1.png"),
    probe("regions as PNGs, one in gray levels", pixels("sam/2007_000004/1.png", 77), SAM, REFUSED, "sam/2007_000004/1.png"),
    probe("regions as JSON cut", cut("sam/2007_000002.json"), SAM, REFUSED, "sam/2007_000002.json"),
    probe("regions as JSON, a number", text("sam/2007_000002.json", "3"), SAM, REFUSED, "sam/2007_000002.json"),
    probe("regions as JSON without a mask", changed_json("sam/2007_000002.json", lambda r: r[0].pop("segmentation")), SAM, REFUSED, "sam/2007_000002.json"),
    probe("regions as JSON of another size", changed_json("sam/2007_000002.json", lambda r: r[0]["segmentation"].update(size=[7, 7])), SAM, REFUSED, "sam/2007_000002.json"),
    probe("regions as JSON with negative runs", changed_json("sam/2007_000002.json", lambda r: r[0]["segmentation"].update(counts=[-5, 9])), SAM, REFUSED, "sam/2007_000002.json"),
    probe("regions as JSON with runs of no sense", changed_json("sam/2007_000002.json", lambda r: r[0]["segmentation"].update(counts="~~~~")), SAM, REFUSED, "sam/2007_000002.json"),
    probe("regions as an array of another size", array("sam/2007_000003.npy", np.zeros((7, 7), int)), SAM, REFUSED, "sam/2007_000003.npy"),
    probe("regions as an array of floats", array("sam/2007_000003.npy", np.zeros((65, 92))), SAM, REFUSED, "sam/2007_000003.npy"),
    probe("regions as an array that runs a program", raw("sam/2007_000003.npy", EVIL), SAM, REFUSED, "sam/2007_000003.npy"),
    probe("regions are a pipe", fifo("sam/2007_000003.npy"), SAM, REFUSED, "sam/2007_000003.npy"),
    probe("--sam_root that does not exist", nothing, SAM.replace("root sam", "root nowhere"), REFUSED, "--sam_root", "nowhere"),
    # The saliency network
    probe("ONNX missing", gone("model.onnx"), MODEL, REFUSED, "--saliency_model", "model.onnx"),
    probe("ONNX empty", empty("model.onnx"), MODEL, REFUSED, "model.onnx"),
    probe("ONNX cut", cut("model.onnx"), MODEL, REFUSED, "model.onnx"),
    probe("ONNX with damaged bytes", flipped("model.onnx", 0.3), MODEL, REFUSED, "model.onnx"),
    probe("ONNX is a picture", copied("voc/Sal/2007_000001.png", "model.onnx"), MODEL, REFUSED, "model.onnx"),
    probe("ONNX is a folder", folder("model.onnx"), MODEL, REFUSED, "model.onnx"),
    probe("ONNX is a pipe", fifo("model.onnx"), MODEL, REFUSED, "model.onnx"),
    probe("ONNX is a link to nowhere", dangling("model.onnx"), MODEL, REFUSED, "model.onnx"),
    probe("ONNX may not be read", unreadable("model.onnx"), MODEL, REFUSED, "model.onnx", options=PLAIN_USER),
    probe("ONNX for a size that it cannot take", nothing, f"{MODEL} --saliency_model_size 77", REFUSED, "--saliency_model_size"),
    probe("saliency network not to be had", nothing, MODEL.replace("model.onnx", "u2netp"), REFUSED, "u2netp", "download"),
    probe("made saliency map cut", cut("out_maps/saliency/2007_000003.png"), "--steps make_boundary_label --saliency make --saliency_model model.onnx --saliency_out_dir out_maps/saliency --boundary_label_dir new --cam_vis_dir new_vis", REFUSED, "out_maps/saliency/2007_000003.png", begins=True),
    # The output folder
    probe("output folder may not be written", read_only("out"), "--steps make_cam --overwrite all", REFUSED, "ermission", options=PLAIN_USER),
    probe("folder of CAMs may not be written", read_only("out/cam"), "--steps make_cam --overwrite all", REFUSED, "out/cam", "ermission", options=PLAIN_USER, begins=True),
    probe("output folder is a file", both(gone("out"), text("out", "")), "", REFUSED, "out"),
    probe("output folder is a link to nowhere", dangling("new"), f"{CAMS} --out_dir new/x", REFUSED, "new"),
    probe("CAMs stopped half-way to their place", both(copied("out/cam", "out/cam/.new"), changed_json("out/cam/.new/settings.json", lambda r: r | {"complete": True})), "--steps make_cam", REFUSED, "out/cam/.new/settings.json"),
)
