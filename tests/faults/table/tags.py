"""Tags in every form, class names and lists."""

import pickle

from tests.faults.damage import (
    appended,
    array,
    both,
    copied,
    cut,
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
    nothing,
    raw,
    replaced,
    text,
    unreadable,
)
from tests.faults.probe import DONE, REFUSED, probe

XML = "voc/Annotations/2007_000003.xml"
CLASSES = "voc/classes.txt"
TRAIN = "voc/ImageSets/Segmentation/train.txt"
AUG = "voc/ImageSets/Segmentation/train_aug.txt"
VAL = "voc/ImageSets/Segmentation/val.txt"
CAMS = "--steps make_cam --cam_out_dir new"
CLASSIFIER = "--steps train_cam --cam_weights_name new.pth --cam_num_epoches 1"
CSV, NPY, TXT = (f"{CAMS} --tags_from tags.{kind}" for kind in ("csv", "npy", "txt"))
PLAIN_USER = {"plain_user": True}
VOC_CLASSES = (
    "aeroplane\nbicycle\nbird\nboat\nbottle\nbus\ncar\ncat\nchair\ncow\ndiningtable\ndog\nhorse\n"
    "motorbike\nperson\npottedplant\nsheep\nsofa\ntrain\ntvmonitor\n"
)
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">'
    + "".join(
        f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("bcdefghi", "cdefghij", strict=True)
    )
    + "]><annotation><object><name>&j;</name></object></annotation>"
)
OUTSIDE = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
    "<annotation><object><name>&b;</name></object></annotation>"
)


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("open('ran', 'w')",)


EVIL = pickle.dumps({"2007_000001": _Runs()})

PROBES = (
    # XML
    probe("XML missing", gone(XML), CAMS, REFUSED, XML, "No tags", "--tags_from"),
    probe("XML empty", empty(XML), CAMS, REFUSED, XML, "not valid XML"),
    probe("XML cut", cut(XML), CAMS, REFUSED, XML, "not valid XML"),
    probe("XML with damaged bytes", flipped(XML), CAMS, REFUSED, XML, "not valid XML"),
    probe("XML is plain text", text(XML, "cat"), CAMS, REFUSED, XML, "not valid XML"),
    probe("XML is a web page", text(XML, "<html><body>404</body></html>"), CAMS, REFUSED, XML, "annotation"),
    probe("XML with a namespace", replaced(XML, "<annotation>", '<annotation xmlns="http://x.y">'), CAMS, REFUSED, XML),
    probe("XML of a table of another kind", text(XML, "<annotations/>"), CAMS, REFUSED, XML),
    probe("XML with an unknown class", replaced(XML, "</name>", "s</name>"), CAMS, REFUSED, XML, "unknown class", "classes.txt"),
    probe("XML with a class of other letters", edited(XML, lambda old: old.replace(b"<name>", b"<name>The ")), CLASSIFIER, REFUSED, XML, "unknown class"),
    probe("XML with an object without a name", replaced(XML, "<object>", "<object><part/></object><object>"), CAMS, REFUSED, XML),
    probe("XML in an unknown encoding", text(XML, '<?xml version="1.0" encoding="martian"?><annotation/>'), CAMS, REFUSED, XML, "encoding"),
    probe("XML in GB2312", raw(XML, '<?xml version="1.0" encoding="GB2312"?><annotation><object><name>\u732b</name></object></annotation>'.encode("gb2312")), CAMS, REFUSED, XML),
    probe("XML that grows without end", text(XML, BOMB), CAMS, REFUSED, XML),
    probe("XML that reads another file", text(XML, OUTSIDE), CAMS, REFUSED, XML),
    probe("XML is a folder", folder(XML), CAMS, REFUSED, XML),
    probe("XML is a pipe", fifo(XML), CAMS, REFUSED, XML),
    probe("XML is a device", device(XML), CAMS, REFUSED, XML),
    probe("XML is a link to nowhere", dangling(XML), CAMS, REFUSED, XML),
    probe("XML may not be read", unreadable(XML), CAMS, REFUSED, XML, "ermission", options=PLAIN_USER),
    probe("XML of two of eight images without a class", both(text(XML, "<annotation/>"), text("voc/Annotations/2007_000004.xml", "<annotation/>")), CAMS, DONE, "2 images (first: 2007_000003) of 8 have no class"),
    probe("all XML without a class", for_each("voc/Annotations/*", lambda p: text(p, "<annotation/>")), CLASSIFIER, REFUSED, "class", "--tags_from"),
    probe("all XML without a class, CAMs", for_each("voc/Annotations/*", lambda p: text(p, "<annotation/>")), CAMS, REFUSED, "class"),
    probe("folder of XML missing", gone("voc/Annotations"), CAMS, REFUSED, "voc/Annotations/2007_000001.xml", "--tags_from"),
    probe("folder of XML is a file", text("voc/Annotations", ""), CAMS, REFUSED, "voc/Annotations"),
    probe("tags changed after the run", replaced(XML, "<object>", "<object><name>dog</name></object><object>"), "", REFUSED, "tags of 1 image changed"),
    probe("tags changed, only CAMs and their scores asked for", replaced(XML, "<object>", "<object><name>dog</name></object><object>"), "--steps make_cam,eval_cam", REFUSED, "tags of 1 image changed"),
    # A table
    probe("tags.csv missing", gone("tags.csv"), CSV, REFUSED, "--tags_from tags.csv", "no such file"),
    probe("tags.csv empty", empty("tags.csv"), CSV, REFUSED, "tags.csv"),
    probe("tags.csv cut", cut("tags.csv"), CSV, REFUSED, "tags.csv"),
    probe("tags.csv without the line of an image", edited("tags.csv", lambda old: b"\n".join(old.split(b"\n")[:4])), CSV, REFUSED, "tags.csv has no tags for 8 images"),
    probe("tags.csv with an unknown class", appended("tags.csv", "x,unicorn\n"), CSV, REFUSED, "tags.csv", "unicorn"),
    probe("tags.csv with an image twice", appended("tags.csv", "2007_000003,cat\n"), CSV, REFUSED, "tags.csv", "2007_000003"),
    probe("tags.csv without a header", edited("tags.csv", lambda old: old.split(b"\n", 1)[1]), CSV, REFUSED, "tags.csv"),
    probe("tags.csv by semicolons", edited("tags.csv", lambda old: old.replace(b",", b";")), CSV, REFUSED, "tags.csv"),
    probe("tags.csv in Latin-1", raw("tags.csv", b"id,class\n2007_000003,caf\xe9\n"), CSV, REFUSED, "tags.csv", "UTF-8"),
    probe("tags.csv in UTF-16", edited("tags.csv", lambda old: old.decode().encode("utf-16")), CSV, REFUSED, "tags.csv", "UTF-8"),
    probe("tags.csv with zero bytes", edited("tags.csv", lambda old: old[:30] + b"\0\0" + old[30:]), CSV, REFUSED, "tags.csv"),
    probe("tags.csv with an open quote", replaced("tags.csv", "2007_000003", '"2007_000003'), CSV, REFUSED, "tags.csv"),
    probe("tags.csv is a picture", copied("voc/JPEGImages/2007_000001.jpg", "tags.csv"), CSV, REFUSED, "tags.csv"),
    probe("tags.csv is a folder", folder("tags.csv"), CSV, REFUSED, "tags.csv"),
    probe("tags.csv is a pipe", fifo("tags.csv"), CSV, REFUSED, "tags.csv"),
    probe("tags.csv is a device", device("tags.csv"), CSV, REFUSED, "tags.csv"),
    probe("tags.csv may not be read", unreadable("tags.csv"), CSV, REFUSED, "tags.csv", "ermission", options=PLAIN_USER),
    probe("tags.csv not filled in", text("tags.csv", "id,class\n" + "".join(f"2007_{n:06},?\n" for n in range(1, 12))), CSV, REFUSED, "tags.csv"),
    # cls_labels.npy
    probe("tags.npy missing", gone("tags.npy"), NPY, REFUSED, "--tags_from tags.npy"),
    probe("tags.npy empty", empty("tags.npy"), NPY, REFUSED, "tags.npy"),
    probe("tags.npy cut", cut("tags.npy"), NPY, REFUSED, "tags.npy"),
    probe("tags.npy with damaged bytes", flipped("tags.npy"), NPY, REFUSED, "tags.npy"),
    probe("tags.npy is an array", array("tags.npy", [1.0, 2.0]), NPY, REFUSED, "tags.npy"),
    probe("tags.npy is a CAM", copied("out/cam/2007_000001.npy", "tags.npy"), NPY, REFUSED, "tags.npy"),
    probe("tags.npy runs a program", raw("tags.npy", EVIL), NPY, REFUSED, "tags.npy"),
    probe("tags.npy is a folder", folder("tags.npy"), NPY, REFUSED, "tags.npy"),
    probe("tags.npy is a pipe", fifo("tags.npy"), NPY, REFUSED, "tags.npy"),
    probe("tags.npy of other classes", text("voc/classes.txt", "cat\ndog\n"), NPY, REFUSED, "tags.npy", "shape (20,)"),
    # WSSS-BED's list
    probe("tags.txt empty", empty("tags.txt"), TXT, REFUSED, "tags.txt"),
    probe("tags.txt with an unknown class", appended("tags.txt", "2007_000099 20\n"), TXT, REFUSED, "tags.txt", "20"),
    probe("tags.txt with a word for a class", appended("tags.txt", "2007_000099 cat\n"), TXT, REFUSED, "tags.txt"),
    probe("tags.txt with an image twice", appended("tags.txt", "2007_000003 1\n"), TXT, REFUSED, "tags.txt", "2007_000003"),
    probe("tags.txt in Latin-1", raw("tags.txt", b"caf\xe9 1\n"), TXT, REFUSED, "tags.txt", "UTF-8"),
    probe("tags.txt lacks an image", edited("tags.txt", lambda old: old[:30]), TXT, REFUSED, "tags.txt"),
    probe("tags.txt is a pipe", fifo("tags.txt"), TXT, REFUSED, "tags.txt"),
    probe("--tags_from an unknown ending", text("tags.json", "{}"), f"{CAMS} --tags_from tags.json", REFUSED, "tags.json"),
    probe("--tags_from a folder", nothing, f"{CAMS} --tags_from voc", REFUSED, "voc"),
    probe("--tags_from masks, one missing", gone("voc/SegmentationClass/2007_000003.png"), f"{CAMS} --tags_from masks", REFUSED, "2007_000003.png"),
    probe("--tags_from masks of an unknown class", text(CLASSES, "cat\ndog\n"), f"{CAMS} --tags_from masks", REFUSED, "classes.txt"),
    # Class names
    probe("background first in classes.txt", text(CLASSES, "background\n" + VOC_CLASSES), CAMS, REFUSED, CLASSES, "background"),
    probe("background last in classes.txt", text(CLASSES, VOC_CLASSES + "background\n"), CAMS, REFUSED, CLASSES, "background"),
    probe("classes.txt empty", empty(CLASSES), CAMS, REFUSED, CLASSES, "1 to 254"),
    probe("classes.txt with a class twice", text(CLASSES, VOC_CLASSES + "cat\n"), CAMS, REFUSED, CLASSES, "cat twice"),
    probe("classes.txt with 255 classes", text(CLASSES, "".join(f"c{n}\n" for n in range(255))), CAMS, REFUSED, CLASSES, "255 names"),
    probe("classes.txt in Latin-1", raw(CLASSES, b"caf\xe9\n"), CAMS, REFUSED, CLASSES, "UTF-8"),
    probe("classes.txt is a folder", folder(CLASSES), CAMS, REFUSED, CLASSES),
    probe("classes.txt is a pipe", fifo(CLASSES), CAMS, REFUSED, CLASSES),
    probe("classes.txt is a device", device(CLASSES), CAMS, REFUSED, CLASSES),
    probe("classes.txt is a link to nowhere", dangling(CLASSES), CAMS, REFUSED, CLASSES),
    probe("classes.txt may not be read", both(text(CLASSES, VOC_CLASSES), unreadable(CLASSES)), CAMS, REFUSED, CLASSES, "ermission", options=PLAIN_USER),
    probe("classes.txt in another order after the run", text(CLASSES, "dog\n" + VOC_CLASSES.replace("dog\n", "")), "", REFUSED, "the class names changed"),
    probe("classes.txt longer after the run", text(CLASSES, VOC_CLASSES + "unicorn\n"), "", REFUSED, "the class names changed"),
    probe("classes.txt in another order, scores asked for", text(CLASSES, "dog\n" + VOC_CLASSES.replace("dog\n", "")), "--steps eval_sem_seg --plan", DONE, "the class names changed"),
    # Lists
    probe("list missing", gone(TRAIN), CAMS, REFUSED, TRAIN, "No list"),
    probe("list empty", empty(TRAIN), CAMS, REFUSED, TRAIN, "is empty"),
    probe("list of blank lines", text(TRAIN, "\n  \n\n"), CAMS, REFUSED, TRAIN, "is empty"),
    probe("list cut inside an id", edited(TRAIN, lambda old: old[:-4]), CAMS, REFUSED, "JPEGImages/2007_000.jpg", "is missing"),
    probe("list names an image twice", appended(TRAIN, "2007_000003\n"), CAMS, REFUSED, TRAIN, "twice"),
    probe("list names a missing image", appended(TRAIN, "2007_000099\n"), CAMS, REFUSED, "2007_000099"),
    probe("list with a path", appended(TRAIN, "../voc/2007_000003\n"), CAMS, REFUSED, TRAIN, "file name"),
    probe("list with a dot", appended(TRAIN, "..\n"), CAMS, REFUSED, TRAIN, "file name"),
    probe("list with a zero byte", appended(TRAIN, "a\0b\n"), CAMS, REFUSED, TRAIN, "file name"),
    probe("list with an id beside its _crf", appended(TRAIN, "2007_000003_crf\n"), CAMS, REFUSED, TRAIN, "same name"),
    probe("list with an id of 300 letters", appended(TRAIN, "x" * 300 + "\n"), CAMS, REFUSED, TRAIN, "long"),
    probe("list in Latin-1", raw(TRAIN, b"caf\xe9\n"), CAMS, REFUSED, TRAIN, "UTF-8"),
    probe("list in UTF-16", edited(TRAIN, lambda old: old.decode().encode("utf-16")), CAMS, REFUSED, TRAIN, "UTF-8"),
    probe("list is a picture", copied("voc/JPEGImages/2007_000001.jpg", TRAIN), CAMS, REFUSED, TRAIN, "UTF-8"),
    probe("list is a folder", folder(TRAIN), CAMS, REFUSED, TRAIN, "is a folder"),
    probe("list is a pipe", fifo(TRAIN), CAMS, REFUSED, TRAIN),
    probe("list is a device", device(TRAIN), CAMS, REFUSED, TRAIN),
    probe("list is a link to nowhere", dangling(TRAIN), CAMS, REFUSED, TRAIN),
    probe("list is a link to itself", linked(TRAIN, "train.txt"), CAMS, REFUSED, TRAIN),
    probe("list may not be read", unreadable(TRAIN), CAMS, REFUSED, TRAIN, "ermission", options=PLAIN_USER),
    probe("list of the networks longer after the run", appended(AUG, "2007_000009\n"), "", REFUSED, "list of images changed"),
    probe("list of the networks shorter after the run", cut(AUG), "--steps train_cam", REFUSED, "list of images changed"),
    probe("list of masks longer after the run", appended(TRAIN, "2007_000009\n"), "--steps make_cam", DONE, "make_cam done 1", changes=("out/cam/settings.json",)),
    probe("list val missing, to look at it", gone(VAL), "--steps train_seg --seg_weights_name new.pth", DONE, "there is no list val"),
    probe("list val is empty", empty(VAL), "--steps make_seg --out_dir out_seg --seg_out_dir new", REFUSED, VAL),
    probe("--infer_list that does not exist", nothing, f"{CAMS} --infer_list nowhere", REFUSED, "nowhere.txt"),
    probe("--train_aug_list that does not exist", nothing, f"{CLASSIFIER} --train_aug_list nowhere", REFUSED, "nowhere.txt"),
    probe("--chainer_eval_set that does not exist", nothing, "--steps eval_cam --chainer_eval_set nowhere", REFUSED, "nowhere.txt"),
    probe("--val_list that does not exist", nothing, "--steps train_seg --seg_weights_name new.pth --val_list nowhere", REFUSED, "nowhere.txt"),
    probe("--make_seg_split that does not exist", nothing, "--steps make_seg --out_dir out_seg --make_seg_split nowhere", REFUSED, "nowhere.txt"),
    probe("--train_list that does not exist", nothing, f"{CLASSIFIER} --train_list nowhere", REFUSED, "nowhere"),
    probe("--infer_list names a folder", nothing, f"{CAMS} --infer_list voc/JPEGImages", REFUSED, "voc/JPEGImages", "folder"),
    probe("the lists of VOC for other data", nothing, f"{CAMS} --infer_list voc12/train.txt", REFUSED, "2007_000032"),
)
