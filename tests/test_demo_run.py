"""The demo as a newcomer runs it: every step, one table, and the order of the methods."""

import itertools
import json
from pathlib import Path

import pytest

import run_sample
from step.common.demo import DEMO_SETTINGS

pytestmark = pytest.mark.slow

POINTS_OVER_CAMS = 0.10


def test_the_demo_shows_what_saliency_adds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sample.main(["--demo", f"--out_dir={tmp_path}"]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    cam = scores["eval_cam"]["best"]["miou"]
    bes, sbe = scores["eval_sem_seg_bes"], scores["eval_sem_seg"]
    assert min(sbe["miou"], sbe["miou_crf"]) > cam + POINTS_OVER_CAMS
    assert cam < bes["miou"] < sbe["miou"]
    assert bes["miou_crf"] < sbe["miou_crf"]
    walk = scores["eval_sem_seg_salient_walk"]
    assert walk["miou"] > scores["eval_sem_seg_salient_cam"]["miou"]
    learnt, supervised = (scores[name]["last"] for name in ("eval_seg", "eval_seg_gt"))
    assert 0.2 < learnt["miou"]["mean"] < supervised["miou"]["mean"]

    table, places = (part.splitlines() for part in capsys.readouterr().out.strip().split("\n\n"))
    names = ["CAM (best threshold, ", "BES (no saliency)", "SBE ", "salient CAM (WSSS-BED) "]
    names += ["salient walk ", "DeepLab-v2 on val, from SBE's", "DeepLab-v2 on val, from exact"]
    assert max(map(len, table)) <= 100
    first = [k for k, line in enumerate(table) if k > 1 and line[0] != " "]
    rows = [
        " ".join(" ".join(table[a:b]).split()) for a, b in itertools.pairwise([*first, len(table)])
    ]
    assert all(row.startswith(name) for row, name in zip(rows, names, strict=True))
    assert f"{100 * sbe['miou']:.1f} {100 * sbe['miou_crf']:.1f}" in rows[2]
    for step, row in {"train_cam": 0, "make_sem_seg": 1, "train_bes": 2, "train_seg": 5}.items():
        assert f"{step} " in rows[row]
    assert [line.split()[-1] for line in places] == [
        str(tmp_path / name)
        for name in (
            "sem_seg",
            "seg/val/last",
            "bes/sem_seg",
            "salient_cam",
            "salient_walk",
            "gt/seg/val/last",
            "report",
            "scores.json",
            "panels",
        )
    ]
    assert len(list((tmp_path / "panels").glob("*.png"))) == DEMO_SETTINGS["panels"]
