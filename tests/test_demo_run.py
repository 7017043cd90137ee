"""The demo as a newcomer runs it: every step, one table, and the order of the methods."""

import json
from pathlib import Path

import pytest

import run_sample
from step.demo import DEMO_SETTINGS

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
    learnt, supervised = (scores[name]["last"] for name in ("eval_seg", "eval_seg_gt"))
    assert 0.2 < learnt["miou"]["mean"] < supervised["miou"]["mean"]

    table = capsys.readouterr().out.strip().splitlines()
    names = ["CAM (best threshold, ", "BES (no saliency)", "SBE ", "DeepLab-v2 on val, from SBE's"]
    names += ["DeepLab-v2 on val, from exact"]
    assert len(table) == 2 + len(names)
    assert all(row.startswith(name) for row, name in zip(table[2:], names, strict=True))
    assert f"{100 * sbe['miou']:.1f}  {100 * sbe['miou_crf']:.1f}" in " ".join(table[4].split(" "))
    for step, row in (("train_cam", 2), ("make_sem_seg", 3), ("train_bes", 4), ("train_seg", 5)):
        assert f"{step} " in table[row]
    assert len(list((tmp_path / "panels").glob("*.png"))) == DEMO_SETTINGS["panels"]
