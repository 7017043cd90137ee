"""The tools with a door of their own, `python -m NAME`."""

from collections.abc import Callable
from typing import Any

from tests.faults.damage import (
    Damage,
    both,
    changed_json,
    copied,
    cut,
    empty,
    fifo,
    flipped,
    folder,
    gone,
    nothing,
    picture,
    pixels,
    read_only,
    text,
    unreadable,
)
from tests.faults.probe import DONE, REFUSED, Probe, probe

PLAIN_USER = {"plain_user": True}
JSON = "coco/instances_train2014.json"
COCO = f"--annotations {JSON} --images coco/train2014 --out new --num_workers 0"
CONVERT = "convert cams/irn new --to irn --num_workers 0"
SCORE = "theirs --data_root voc --split few --num_workers 0"
REPORT = "out/report/report.json"
COMPARE = "theirs masks --data_root voc --split few --num_workers 0"
MASK_FILES = "logits new --num_workers 0"


def of(tool: str, name: str, damage: Damage, flags: str, status: int, *words: str, **more: Any) -> Probe:
    return probe(f"{tool}: {name}", damage, flags, status, *words, tool=tool, **more)


def first(change: Callable[[dict[str, Any]], object]) -> Damage:
    """An annotation of a JSON of COCO's, changed."""
    return changed_json(JSON, lambda content: change(content["annotations"][0]) and None)


PROBES = (
    # voc12.check
    of("voc12.check", "no dataset", nothing, "nowhere", REFUSED, "nowhere"),
    of("voc12.check", "a dataset that is sound", nothing, "voc --num_workers 0", DONE, "run_sample.py"),
    of("voc12.check", "a photograph cut", cut("voc/JPEGImages/2007_000003.jpg"), "voc --num_workers 0", REFUSED, "2007_000003.jpg"),
    of("voc12.check", "a photograph that is a pipe", fifo("voc/JPEGImages/2007_000003.jpg"), "voc --num_workers 0", REFUSED, "2007_000003.jpg"),
    of("voc12.check", "an XML that is a pipe", fifo("voc/Annotations/2007_000003.xml"), "voc --num_workers 0", REFUSED, "2007_000003.xml"),
    of("voc12.check", "an XML cut", cut("voc/Annotations/2007_000003.xml"), "voc --num_workers 0", REFUSED, "2007_000003.xml"),
    of("voc12.check", "a mask of an unknown class", pixels("voc/SegmentationClass/2007_000003.png", 77), "voc --num_workers 0", REFUSED, "2007_000003.png", "77"),
    of("voc12.check", "a mask with alpha", picture("voc/SegmentationClass/2007_000003.png", "LA"), "voc --num_workers 0", REFUSED, "2007_000003.png", "LA"),
    of("voc12.check", "a saliency map of another size", picture("voc/Sal/2007_000003.png", "L", (7, 7)), "voc --num_workers 0", REFUSED, "2007_000003"),
    of("voc12.check", "a saliency map with damaged pixels", flipped("voc/Sal/2007_000003.png"), "voc --num_workers 0", REFUSED, "2007_000003"),
    of("voc12.check", "no list", gone("voc/ImageSets/Segmentation/train.txt"), "voc --num_workers 0", REFUSED, "train.txt"),
    of("voc12.check", "background in classes.txt", text("voc/classes.txt", "background\ncat\n"), "voc --num_workers 0", REFUSED, "background"),
    of("voc12.check", "a folder of photographs that may not be entered", unreadable("voc/JPEGImages"), "voc --num_workers 0", REFUSED, "JPEGImages", options=PLAIN_USER),
    of("voc12.check", "a negative number of workers, which is none", nothing, "voc --num_workers -1", DONE, "run_sample.py"),
    # voc12.init
    of("voc12.init", "no photographs", nothing, "new --images nowhere", REFUSED, "nowhere"),
    of("voc12.init", "a folder without photographs", nothing, "new --images out/weights", REFUSED, "out/weights"),
    of("voc12.init", "a dataset that is a file", nothing, "tags.csv --images photos", REFUSED, "tags.csv"),
    of("voc12.init", "a share above 1", nothing, "new --images photos --val_share 2", REFUSED, "--val_share"),
    of("voc12.init", "a share of no number", nothing, "new --images photos --val_share nan", REFUSED, "--val_share"),
    of("voc12.init", "a class twice", nothing, "new --images photos --classes mug,spoon,mug", REFUSED, "mug"),
    of("voc12.init", "a dataset that is there", nothing, "voc --images photos", DONE, "kept ImageSets/Segmentation/train.txt as it is"),
    # voc12.make_lists
    of("voc12.make_lists", "no masks", nothing, "--data_root voc", REFUSED, "SegmentationClassAug"),
    of("voc12.make_lists", "a list that is there", both(copied("voc/SegmentationClass", "voc/SegmentationClassAug")), "--data_root voc", REFUSED, "train_aug.txt", "exists"),
    of("voc12.make_lists", "--out that is there", both(copied("voc/SegmentationClass", "voc/SegmentationClassAug")), "--data_root voc --out tags.csv", REFUSED, "tags.csv", "exists"),
    of("voc12.make_lists", "--out below a file", both(copied("voc/SegmentationClass", "voc/SegmentationClassAug")), "--data_root voc --out tags.csv/x", REFUSED, "tags.csv"),
    of("voc12.make_lists", "no dataset", nothing, "--data_root nowhere", REFUSED, "nowhere"),
    # voc12.make_cls_labels
    of("voc12.make_cls_labels", "a file that is there", text("cls_labels.npy", "mine"), "--data_root voc", REFUSED, "cls_labels.npy", "exists"),
    of("voc12.make_cls_labels", "an XML cut", cut("voc/Annotations/2007_000003.xml"), "--data_root voc", REFUSED, "2007_000003.xml"),
    of("voc12.make_cls_labels", "an unknown list", nothing, "--data_root voc --splits nowhere", REFUSED, "nowhere"),
    of("voc12.make_cls_labels", "a folder that may not be written", read_only("."), "--data_root voc", REFUSED, "ermission", options=PLAIN_USER),
    # voc12.fetch_wsss_bed
    of("voc12.fetch_wsss_bed", "an unknown set", nothing, "fly --to new", REFUSED, "fly", "--list"),
    of("voc12.fetch_wsss_bed", "no network", nothing, "VOC2012_PoolNet_DUTS --to new --attempts 1", REFUSED, "VOC2012_PoolNet_DUTS", begins=True),
    # voc12.from_coco
    of("voc12.from_coco", "no JSON", gone(JSON), COCO, REFUSED, JSON),
    of("voc12.from_coco", "a JSON empty", empty(JSON), COCO, REFUSED, JSON),
    of("voc12.from_coco", "a JSON cut", cut(JSON), COCO, REFUSED, JSON),
    of("voc12.from_coco", "a JSON with damaged bytes", flipped(JSON, 0.9), COCO, REFUSED, JSON),
    of("voc12.from_coco", "a JSON that is a list", text(JSON, "[]"), COCO, REFUSED, JSON),
    of("voc12.from_coco", "a JSON of captions", text(JSON, '{"images": [], "annotations": []}'), COCO, REFUSED, JSON),
    of("voc12.from_coco", "a JSON nested without end", text(JSON, '{"images": ' + "[" * 100000), COCO, REFUSED, JSON),
    of("voc12.from_coco", "a JSON that is a pipe", fifo(JSON), COCO, REFUSED, JSON),
    of("voc12.from_coco", "a JSON that is a folder", folder(JSON), COCO, REFUSED, JSON),
    of("voc12.from_coco", "an unknown category", first(lambda a: a.update(category_id=12)), COCO, REFUSED, "12"),
    of("voc12.from_coco", "an unknown image", first(lambda a: a.update(image_id=99)), COCO, DONE, "1 annotations belong to no image"),
    of("voc12.from_coco", "a word for a category", first(lambda a: a.update(category_id="cat")), COCO, REFUSED, JSON),
    of("voc12.from_coco", "an annotation without a mask", first(lambda a: a.pop("segmentation")), COCO, REFUSED, "segmentation", begins=True),
    of("voc12.from_coco", "a polygon of words", first(lambda a: a.update(segmentation=[["a", "b", "c", "d", "e", "f"]])), COCO, REFUSED, "COCO_train2014", begins=True),
    of("voc12.from_coco", "a polygon of infinite numbers", first(lambda a: a.update(segmentation=[[1e400, 1, 2, 2, 3, 3]])), COCO, REFUSED, "COCO_train2014", begins=True),
    of("voc12.from_coco", "run lengths of another size", first(lambda a: a.update(segmentation={"size": [1, 1], "counts": [1]})), COCO, REFUSED, "COCO_train2014", begins=True),
    of("voc12.from_coco", "run lengths that are too long", first(lambda a: a.update(segmentation={"size": [40, 50], "counts": [10**12]})), COCO, REFUSED, "COCO_train2014", begins=True),
    of("voc12.from_coco", "a file name that leads out", changed_json(JSON, lambda c: c["images"][0].update(file_name="../../voc/JPEGImages/2007_000001.jpg")), COCO, REFUSED, "2007_000001.jpg"),
    of("voc12.from_coco", "an image of negative height", changed_json(JSON, lambda c: c["images"][0].update(height=-1)), COCO, REFUSED, JSON),
    of("voc12.from_coco", "an image of another size", changed_json(JSON, lambda c: c["images"][0].update(height=41)), COCO, REFUSED, "COCO_train2014_000000000001", begins=True),
    of("voc12.from_coco", "an image missing", gone("coco/train2014/COCO_train2014_000000000001.jpg"), COCO, REFUSED, "COCO_train2014_000000000001.jpg", "--missing_images"),
    of("voc12.from_coco", "an image cut", cut("coco/train2014/COCO_train2014_000000000001.jpg"), COCO, REFUSED, "COCO_train2014_000000000001.jpg", begins=True),
    of("voc12.from_coco", "no folder of images", nothing, COCO.replace("coco/train2014", "nowhere"), REFUSED, "nowhere"),
    of("voc12.from_coco", "--out of another dataset", nothing, COCO.replace("--out new", "--out voc"), REFUSED, "voc"),
    of("voc12.from_coco", "more folders than JSONs", nothing, f"{COCO} --images coco/train2014 coco", REFUSED, "--images"),
    # misc.cam_files
    of("misc.cam_files", "no folder", nothing, CONVERT.replace("cams/irn", "nowhere"), REFUSED, "nowhere"),
    of("misc.cam_files", "a folder without CAMs", nothing, CONVERT.replace("cams/irn", "coco"), REFUSED, "coco"),
    of("misc.cam_files", "a CAM cut", cut("cams/irn/2007_000003.npy"), CONVERT, REFUSED, "2007_000003.npy", begins=True),
    of("misc.cam_files", "a CAM that is a pipe", fifo("cams/irn/2007_000003.npy"), CONVERT, REFUSED, "2007_000003.npy", begins=True),
    of("misc.cam_files", "into itself", nothing, CONVERT.replace(" new", " cams/irn"), REFUSED, "SRC and DST are the same folder"),
    of("misc.cam_files", "into a file", nothing, CONVERT.replace(" new", " tags.csv"), REFUSED, "tags.csv"),
    of("misc.cam_files", "too few classes", nothing, f"{CONVERT} --num_classes 1", REFUSED, "--num_classes", begins=True),
    of("misc.cam_files", "a negative number of classes", nothing, f"{CONVERT} --num_classes -1", REFUSED, "--num_classes"),
    of("misc.cam_files", "no size for fma", nothing, CONVERT.replace("cams/irn", "cams/fma"), REFUSED, "--image_root", begins=True),
    # misc.mask_files
    of("misc.mask_files", "no folder", nothing, MASK_FILES.replace("logits", "nowhere"), REFUSED, "nowhere"),
    of("misc.mask_files", "a folder without masks", nothing, MASK_FILES.replace("logits", "coco"), REFUSED, "coco"),
    of("misc.mask_files", "scores cut", cut("logits/2007_000001.npy"), MASK_FILES, REFUSED, "logits/2007_000001.npy", begins=True),
    of("misc.mask_files", "scores that are a CAM", copied("cams/irn/2007_000001.npy", "logits/2007_000001.npy"), MASK_FILES, REFUSED, "logits/2007_000001.npy", begins=True),
    of("misc.mask_files", "scores of other classes", nothing, f"{MASK_FILES} --num_classes 5", REFUSED, "logits/2007_000001.npy", begins=True),
    of("misc.mask_files", "a negative number of classes", nothing, f"{MASK_FILES} --num_classes -5", REFUSED, "--num_classes"),
    of("misc.mask_files", "into itself", nothing, "theirs theirs --num_workers 0", REFUSED, "SRC and DST are the same folder"),
    of("misc.mask_files", "into a file", nothing, "logits tags.csv --num_workers 0", REFUSED, "tags.csv"),
    of("misc.mask_files", "a mask in foreign colours", picture("theirs/2007_000003.png", "LA"), "theirs new --num_workers 0", REFUSED, "theirs/2007_000003.png", begins=True),
    # step.score and step.compare
    of("step.score", "no folder", nothing, SCORE.replace("theirs", "nowhere"), REFUSED, "nowhere"),
    of("step.score", "a mask missing", gone("theirs/2007_000003.png"), SCORE, REFUSED, "theirs", "2007_000003"),
    of("step.score", "a mask cut", cut("theirs/2007_000003.png"), SCORE, REFUSED, "theirs/2007_000003.png"),
    of("step.score", "a mask that is a pipe", fifo("theirs/2007_000003.png"), SCORE, REFUSED, "theirs/2007_000003.png"),
    of("step.score", "a mask of another size", picture("theirs/2007_000003.png", "P", (7, 7)), SCORE, REFUSED, "theirs/2007_000003.png"),
    of("step.score", "a mask of an unknown class", pixels("theirs/2007_000003.png", 77), SCORE, REFUSED, "theirs/2007_000003.png", "77"),
    of("step.score", "an exact mask cut", cut("voc/SegmentationClass/2007_000003.png"), SCORE, REFUSED, "SegmentationClass/2007_000003.png"),
    of("step.score", "a card cut", cut("theirs/card.json"), SCORE, REFUSED, "theirs/card.json"),
    of("step.score", "a card that is a list", text("theirs/card.json", "[1]"), SCORE, REFUSED, "theirs/card.json"),
    of("step.score", "a card with an unknown field", text("theirs/card.json", '{"colour": "red"}'), SCORE, REFUSED, "theirs/card.json", "colour"),
    of("step.score", "an unknown field typed", nothing, f"{SCORE} --card colour=red", REFUSED, "colour"),
    of("step.score", "a field without a value", nothing, f"{SCORE} --card seeds", REFUSED, "--card"),
    of("step.score", "an unknown class", nothing, f"{SCORE} --eval_classes unicorn", REFUSED, "unicorn"),
    of("step.score", "an unknown list", nothing, "theirs --data_root voc --split nowhere", REFUSED, "nowhere"),
    of("step.score", "--to is a file", nothing, f"{SCORE} --to tags.csv", REFUSED, "tags.csv"),
    of("step.score", "--to may not be written", read_only("coco"), f"{SCORE} --to coco/x", REFUSED, "coco", "ermission", options=PLAIN_USER),
    of("step.score", "a record of ours cut", cut("out/sem_seg/settings.json"), "out/sem_seg --data_root voc --split few --num_workers 0", DONE, "out/sem_seg/settings.json"),
    of("step.compare", "one folder alone", nothing, "theirs --data_root voc --split few", REFUSED, "Name 2 to 26 folders"),
    of("step.compare", "a folder twice", nothing, "a=theirs a=masks --data_root voc --split few", REFUSED, "a"),
    of("step.compare", "a mask missing in one", gone("masks/2007_000003.png"), COMPARE, REFUSED, "masks", "2007_000003"),
    of("step.compare", "no resamples", nothing, f"{COMPARE} --resamples 0", REFUSED, "--resamples"),
    of("step.compare", "a negative seed", nothing, f"{COMPARE} --seed -1", REFUSED, "--seed"),
    of("step.compare", "--to is a file", nothing, f"{COMPARE} --to tags.csv", REFUSED, "tags.csv"),
    # step.report
    of("step.report", "no folder", nothing, "nowhere out --to new", REFUSED, "nowhere"),
    of("step.report", "a folder without a run", nothing, "coco out --to new", REFUSED, "coco"),
    of("step.report", "one run alone", nothing, "out --to new", REFUSED, "at least two runs"),
    of("step.report", "no resamples", nothing, "out out_seg --to new --resamples 0", REFUSED, "--resamples"),
    of("step.report", "a negative seed", nothing, "out out_seg --to new --seed -1", REFUSED, "--seed"),
    of("step.report", "a report empty", empty(REPORT), "out out_seg --to new", REFUSED, REPORT),
    of("step.report", "a report that is a list", text(REPORT, "[]"), "out out_seg --to new", REFUSED, REPORT),
    of("step.report", "a report of nothing", text(REPORT, "{}"), "out out_seg --to new", REFUSED, REPORT),
    of("step.report", "a report nested without end", text(REPORT, "[" * 100000), "out out_seg --to new", REFUSED, REPORT),
    of("step.report", "a report that is a pipe", fifo(REPORT), "out out_seg --to new", REFUSED, REPORT),
    of("step.report", "a report that is a folder", folder(REPORT), "out out_seg --to new", REFUSED, "out"),
)
