"""The text of the root README."""

from tests.helpers.paths import ROOT

OWN_DATA = """\
The smallest dataset is a folder like this. VOC 2012 works as unpacked, with `Sal/` added.
[voc12/README.md](voc12/README.md) has the details, and says
[where to get saliency maps](voc12/README.md#saliency-maps).
"""
NEW_OWN_DATA = """\
A dataset is a folder like the one below. VOC 2012 works as unpacked, with `Sal/` added. This makes
one from your photographs; classes, tags and [saliency maps](voc12/README.md#saliency-maps) are for
you to add ([details](voc12/README.md#your-own-photographs)):
```bash
.venv/bin/python -m voc12.init mydata --images photos
```
"""
OWN_RUN = """\
```bash
.venv/bin/python run_sample.py --data_root mydata --eval_cam_pass no --eval_sem_seg_pass no
"""
NEW_OWN_RUN = """\
`voc12.check` looks for mistakes, and says what to type next:
```bash
.venv/bin/python -m voc12.check mydata
.venv/bin/python run_sample.py --data_root mydata --eval_cam_pass no --eval_sem_seg_pass no
"""
# What the README is going to say: nothing once it does.
AWAITED = {
    OWN_DATA: NEW_OWN_DATA,
    OWN_RUN: NEW_OWN_RUN,
    "Use COCO ([details](voc12/README.md#coco)):\n":
        "Use COCO, with saliency maps in `COCO_Sal` ([details](voc12/README.md#coco)):\n",
    "run_sample.py --data_root COCO --preset coco14\n":
        "run_sample.py --data_root COCO --preset coco14 --sal_root COCO_Sal\n",
    "Train DeepLab-v2 on the masks ([details]":
        "Train DeepLab-v2 on the masks, and score it on the list `val` ([details]",
}  # fmt: skip


def _text() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for old, new in AWAITED.items():
        assert (old in text) != (new in text), new
        text = text.replace(old, new)
    return text


README_TEXT = _text()
