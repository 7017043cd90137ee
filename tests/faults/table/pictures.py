"""Photographs, saliency maps and exact masks."""

from tests.faults.damage import (
    both,
    cut,
    cut_but_ended,
    dangling,
    device,
    edited,
    empty,
    fifo,
    flipped,
    folder,
    for_each,
    gone,
    linked,
    moved,
    nothing,
    picture,
    pixels,
    raw,
    text,
    unreadable,
)
from tests.faults.probe import DONE, REFUSED, probe

JPG = "voc/JPEGImages/2007_000003.jpg"
SAL = "voc/Sal/2007_000003.png"
MASK = "voc/SegmentationClass/2007_000003.png"
CAMS = "--steps make_cam --cam_out_dir new"
MASKS = "--steps make_sem_seg --sem_seg_out_dir new"
TRAIN = "--steps train_cam --cam_weights_name new.pth --cam_num_epoches 1"
LABELS = "--steps make_boundary_label --boundary_label_dir new --cam_vis_dir new_vis"
SALIENT = "--steps make_sem_seg --sem_seg_out_dir new --sem_seg_rule saliency"
BES = "--steps train_bes --bes_weights_name new.pth --bes_num_epoches 1"
SCORES = "--steps eval_sem_seg --chainer_eval_set few"
SEG = "--steps train_seg --seg_weights_name new.pth --seg_val_every 0"
PLAIN_USER = {"plain_user": True}

EXIF_ROTATED = (
    b"\xff\xd8\xff\xe1\x00\x22Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00"
    b"\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"
)

PROBES = (
    # Photographs
    probe("photograph missing", gone(JPG), CAMS, REFUSED, JPG, "is missing"),
    probe("photograph missing, for masks", gone(JPG), MASKS, REFUSED, JPG, "is missing"),
    probe("photograph missing, for a training", gone(JPG), TRAIN, REFUSED, JPG, "is missing"),
    probe("photograph empty", empty(JPG), CAMS, REFUSED, JPG, "not a readable picture"),
    probe("photograph cut", cut(JPG), CAMS, REFUSED, JPG, "truncated"),
    probe("photograph cut after its header", cut(JPG, 0.1), CAMS, REFUSED, JPG),
    probe("photograph cut, with an end mark", cut_but_ended(JPG), CAMS, DONE, "2007_000003"),
    probe("photograph is text", text(JPG, "no picture"), CAMS, REFUSED, JPG, "not a readable"),
    probe("photograph is a web page", text(JPG, "<!DOCTYPE html><html></html>"), TRAIN, REFUSED, JPG),
    probe("photograph with a damaged header", flipped(JPG, 0.0), CAMS, REFUSED, JPG, "not a readable"),
    probe("photograph is a folder", folder(JPG), CAMS, REFUSED, JPG),
    probe("photograph is a pipe", fifo(JPG), CAMS, REFUSED, JPG, "not a"),
    probe("photograph is a device", device(JPG), CAMS, REFUSED, JPG),
    probe("photograph is a link to nowhere", dangling(JPG), CAMS, REFUSED, JPG),
    probe("photograph is a link to itself", linked(JPG, "2007_000003.jpg"), CAMS, REFUSED, JPG),
    probe("photograph may not be read", unreadable(JPG), CAMS, REFUSED, JPG, "ermission", options=PLAIN_USER),
    probe("photograph is a GIF", raw(JPG, b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"), CAMS, REFUSED, JPG),
    probe("photograph is a TIFF", raw(JPG, b"II*\x00\x08\x00\x00\x00\x00\x00"), CAMS, REFUSED, JPG),
    probe("photograph resized after the run", picture(JPG, size=(40, 30)), "", REFUSED, "the photographs of 1 image changed", JPG, "40x30"),
    probe("photograph resized, other CAMs taken", picture(JPG, size=(40, 30)), LABELS, REFUSED, "2007_000003"),
    probe("photograph of one pixel", picture(JPG, size=(1, 1)), MASKS, REFUSED, "out/walk/2007_000003.npy", begins=True),
    probe("photographs changed after the run", for_each("voc/JPEGImages/*", lambda p: picture(p, "L")), "", REFUSED, "the photographs of 8 images changed"),
    probe("photographs turned by their EXIF", edited(JPG, lambda old: EXIF_ROTATED + old[2:]), CAMS, DONE, "EXIF"),
    probe("folder of photographs missing", gone("voc/JPEGImages"), CAMS, REFUSED, "--data_root voc", "JPEGImages"),
    probe("folder of photographs empty", both(gone("voc/JPEGImages"), folder("voc/JPEGImages")), CAMS, REFUSED, JPG.replace("3.jpg", "1.jpg"), "is missing"),
    probe("folder of photographs is a file", text("voc/JPEGImages", ""), CAMS, REFUSED, "--data_root voc", "JPEGImages"),
    probe("folder of photographs may not be entered", unreadable("voc/JPEGImages"), CAMS, REFUSED, "JPEGImages", options=PLAIN_USER),
    # Saliency maps
    probe("saliency map missing", gone(SAL), LABELS, REFUSED, SAL, "is missing", "--saliency none"),
    probe("saliency map missing, for masks by saliency", gone(SAL), SALIENT, REFUSED, SAL, "is missing"),
    probe("saliency map missing, for the boundary network", gone(SAL), BES, REFUSED, SAL, "is missing"),
    probe("saliency map empty", empty(SAL), LABELS, REFUSED, SAL, "not a readable picture"),
    probe("saliency map cut", cut(SAL), LABELS, REFUSED, SAL),
    probe("saliency map with damaged pixels", flipped(SAL), LABELS, REFUSED, SAL, begins=True),
    probe("saliency map is text", text(SAL, "0.5"), LABELS, REFUSED, SAL, "not a readable"),
    probe("saliency map of another size", picture(SAL, "L", (30, 30)), LABELS, REFUSED, SAL, "30x30"),
    probe("saliency map upright, photograph not", picture(SAL, "L", (60, 90)), BES, REFUSED, SAL, "60x90"),
    probe("saliency map is a folder", folder(SAL), LABELS, REFUSED, SAL),
    probe("saliency map is a pipe", fifo(SAL), LABELS, REFUSED, SAL),
    probe("saliency map is a device", device(SAL), LABELS, REFUSED, SAL),
    probe("saliency map is a link to nowhere", dangling(SAL), LABELS, REFUSED, SAL),
    probe("saliency map may not be read", unreadable(SAL), LABELS, REFUSED, SAL, "ermission", options=PLAIN_USER),
    probe("saliency map changed after the run", picture(SAL, "1"), "", REFUSED, "the saliency maps of 1 image changed"),
    probe("folder Sal missing", gone("voc/Sal"), LABELS, REFUSED, "voc/Sal", "--sal_root", "--saliency make"),
    probe("folder Sal is a file", text("voc/Sal", ""), LABELS, REFUSED, "voc/Sal"),
    probe("--sal_root that does not exist", nothing, f"{LABELS} --sal_root nowhere", REFUSED, "no folder nowhere", "--sal_root"),
    probe("--sal_root of photographs", nothing, f"{LABELS} --sal_root voc/JPEGImages", REFUSED, "voc/JPEGImages/2007_000001.png"),
    probe("saliency maps all black", for_each("voc/Sal/*", lambda p: pixels(p, 0, everywhere=True)), LABELS, DONE, "voc/Sal"),
    # Exact masks
    probe("exact mask missing", gone(MASK), SCORES, REFUSED, MASK, "is missing", "--chainer_eval_set"),
    probe("exact mask missing, to learn from", gone(MASK), SEG, REFUSED, MASK, "is missing"),
    probe("exact mask empty", empty(MASK), SCORES, REFUSED, MASK, "not a readable picture"),
    probe("exact mask cut", cut(MASK), SCORES, REFUSED, MASK),
    probe("exact mask with damaged pixels", flipped(MASK, 0.9, 4), SCORES, REFUSED, MASK),
    probe("exact mask is text", text(MASK, "0 0 1"), SCORES, REFUSED, MASK),
    probe("exact mask is a JPEG", raw(MASK, b"\xff\xd8\xff\xe0\x00\x10JFIF"), SCORES, REFUSED, MASK),
    probe("exact mask of another size", picture(MASK, "L", (30, 30)), SCORES, REFUSED, MASK, "30x30"),
    probe("exact mask in gray with alpha", picture(MASK, "LA"), SCORES, REFUSED, MASK, "mode LA"),
    probe("exact mask of 16 bits", picture(MASK, "I;16"), SCORES, REFUSED, MASK, "mode I"),
    probe("exact mask of one bit", picture(MASK, "1"), SCORES, REFUSED, MASK, "mode 1"),
    probe("exact mask in colours of no palette", both(picture(MASK, "L"), picture(MASK, "RGB")), SCORES, REFUSED, MASK, "colour"),
    probe("exact mask of an unknown class", pixels(MASK, 77), SCORES, REFUSED, MASK, "77"),
    probe("exact mask of an unknown class, to learn from", pixels(MASK, 77), SEG, REFUSED, MASK, "77"),
    probe("exact mask with alpha, to learn from", picture(MASK, "LA"), SEG, REFUSED, MASK, "mode LA"),
    probe("exact mask with damaged pixels, to learn from", flipped(MASK, 0.9, 4), SEG, REFUSED, MASK),
    probe("exact mask is a folder", folder(MASK), SCORES, REFUSED, MASK),
    probe("exact mask is a pipe", fifo(MASK), SCORES, REFUSED, MASK),
    probe("exact mask is a device", device(MASK), SCORES, REFUSED, MASK),
    probe("exact mask is a link to nowhere", dangling(MASK), SCORES, REFUSED, MASK),
    probe("exact mask may not be read", unreadable(MASK), SCORES, REFUSED, MASK, "ermission", options=PLAIN_USER),
    probe("exact mask all void", pixels(MASK, 255, everywhere=True), "--steps eval_sem_seg", DONE, "mIoU"),
    probe("folder of exact masks missing", gone("voc/SegmentationClass"), SCORES, REFUSED, "voc/SegmentationClass"),
    probe("folder of exact masks missing, scores not asked for", gone("voc/SegmentationClass"), "", DONE, "Nothing is scored"),
    probe("exact masks moved to another name", moved("voc/SegmentationClass", "voc/SegmentationObject"), SCORES, REFUSED, "voc/SegmentationClass"),
)
