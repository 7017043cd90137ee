"""What the random probes damage and type: every kind of input with what reads it, and values."""

from tests.helpers.cam_writers import WRITERS

NEW = "--out_dir new"
LABELS = f"--steps make_boundary_label --train_aug_list few {NEW}"
CAMS = f"--steps make_cam --infer_list few --train_aug_list few --cam_weights_name out/weights/cam.pth {NEW}"
MASKS = "--steps make_sem_seg --infer_list few --sem_seg_out_dir new"
GO_ON = "--steps train_seg --out_dir stopped --seg_val_every 0"
# Files, and a command that reads them: of run_sample.py where no other is named.
KINDS: tuple[tuple[str, ...], ...] = (
    ("voc/JPEGImages/2007_00000[1-3].jpg", MASKS),
    ("voc/Sal/2007_00000[1-3].png", f"{LABELS} --cam_out_dir cams/irn"),
    ("voc/SegmentationClass/2007_00000[1-3].png", "--steps eval_sem_seg --chainer_eval_set few"),
    ("voc/SegmentationClass/2007_00000[1-3].png", "theirs --data_root voc --split few --num_workers 0", "step.score"),
    ("voc/Annotations/2007_00000[1-3].xml", CAMS),
    ("voc/ImageSets/Segmentation/few.txt", CAMS),
    *((f"tags.{kind}", f"{CAMS} --tags_from tags.{kind}") for kind in ("csv", "npy", "txt")),
    *((f"cams/{d}/2007_00000[1-3]*", f"{LABELS} --cam_out_dir cams/{d} --cam_format {d}") for d in WRITERS),
    ("cams/irn/2007_00000[1-3].npy", "convert cams/irn new --to irn --num_workers 0", "misc.cam_files"),
    ("logits/*.npy", "logits new --num_workers 0", "misc.mask_files"),
    ("out/cam/*.npy", "--steps make_boundary_label --boundary_label_dir new --cam_vis_dir new_vis"),
    ("out/walk/2007_00000[1-3].npy", MASKS),
    ("out/boundary_label/*.png", "--steps train_bes --bes_weights_name new.pth --bes_num_epoches 1"),
    ("theirs/2007_00000[1-8].png", "--steps train_seg --seg_weights_name new.pth --seg_val_every 0 --seg_label_dir theirs --seg_iters 1"),
    ("theirs/card.json", "theirs --data_root voc --split few --num_workers 0", "step.score"),
    ("out/weights/cam.pth", CAMS),
    ("out/weights/*.json", "--plan"),
    ("out/*/settings.json", "--plan"),
    ("out/scores.json", "--steps eval_cam"),
    ("out/panels/sources.json", "--steps eval_cam --panels 1"),
    ("stopped/weights/seg.pth.new/checkpoint", GO_ON),
    ("stopped/weights/seg.pth.new/settings.json", f"{GO_ON} --plan"),
    ("out_seg/weights/*.json", "--steps train_seg,make_seg,eval_seg --out_dir out_seg --plan"),
    ("sam/2007_00000*", "--steps refine_masks --sam_root sam --refined_out_dir new"),
    ("sam/2007_000004/*", "--steps refine_masks --sam_root sam --refined_out_dir new"),
    ("model.onnx", f"--steps make_saliency --saliency make --saliency_model model.onnx {NEW}"),
    ("coco/instances_train2014.json", "--annotations coco/instances_train2014.json --images coco/train2014 --out new --num_workers 0", "voc12.from_coco"),
)
VALUES = (
    "", " ", "0", "-1", "1", "2", "7", "0.5", "-0.5", "1.5", "1e308", "1e-308", "-inf", "inf", "nan",
    str(2**31), str(2**63), str(2**64), "9" * 400, "0x10", "1_000", "\u0663", "one", "none", "auto",
    "yes", "no", "all", ",", "1,2", "2,1", "1,1,1", "0:1:5", "0:1:1", "1:0:3", "0:1:999999", "[1]", "(1",
    "a=b", "a=b:c", "=", "a=", "a=,b=", "..", ".", "/", "~", "voc", "out", "tags.csv", "model.onnx",
    "nowhere", "voc/JPEGImages", "out/cam", "/dev/null", "/dev/full", "/proc/self/mem", "\udcff", "%s",
    "{}", "a\nb", "\t", "x" * 300, "caf\u00e9", "--seed", "*", "train", "few", "val", "make_cam", "cat", "background",
)
