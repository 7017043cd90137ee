"""Files of ours with foreign content: one sentence, or made anew where nothing is lost."""

import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.tiny import Run, contents, copy_run, run, scores_of, states

FOREIGN: dict[str, str | bytes] = {
    "list": "[1, 2]",
    "number": "7",
    "other kinds": json.dumps({
        "eval_cam": 5, "settings": 3, "inputs": [], "images": 4, "done": 7, "command": 9,
    }),
    "kinds below": json.dumps({
        "settings": {}, "inputs": {"the CAMs": 1}, "images": {"a": [1]}, "done": [[]],
        "2007_000001": {"a": []},
    }),
    "infinite": '{"settings": 1e999, "a": ' + "9" * 6000 + "}",
    "not UTF-8": b'{"settings": "\xff\xfe"}',
    "half a character": '{"settings": {"a": "\\ud800"}, "inputs": {}}',
    "deep": "[" * 100_000,
    "empty": "",
    "zeros": b"\0" * 100,
}  # fmt: skip
STEPS = "--steps=eval_cam,make_sem_seg,eval_sem_seg"


def put(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # the original is linked
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(
    "name", ["scores.json", "run.json", "cam/settings.json", "weights/cam.pth.json"]
)
@pytest.mark.parametrize("kind", FOREIGN)
def test_results_and_their_records_are_told_by_path_and_left_alone(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, name: str, kind: str
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    put(out_dir / name, FOREIGN[kind])
    before = states(out_dir)
    done = run(tiny_dataset, out_dir, "--steps=make_cam,eval_cam")
    assert done.status == 2
    last = done.stderr.splitlines()[-1]
    assert last.count(str(out_dir / name)) == 1
    assert re.search(r"(Move it away|Delete it)", last)
    assert "set_int_max_str_digits" not in last
    assert states(out_dir) == before


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_only_saves_time_is_made_anew(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, kind: str
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    put(out_dir / "scores.settings.json", FOREIGN[kind])
    for name in ("panels/sources.json", ".sbe/redo.json", ".sbe/lock.json", ".sbe/files.sqlite"):
        put(out_dir / name, FOREIGN[kind])
    done = run(tiny_dataset, out_dir, STEPS, "--panels=1")
    assert done.status == 0, done.stderr
    assert contents(out_dir) == contents(finished_run.out_dir)
    assert list(json.loads((out_dir / "panels" / "sources.json").read_text())) == ["2007_000001"]


def test_a_database_with_values_of_other_kinds_says_nothing(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    assert run(tiny_dataset, out_dir, "--steps=eval_cam").status == 0
    path = out_dir / ".sbe" / "files.sqlite"
    with sqlite3.connect(path) as database:
        assert database.execute("UPDATE contents SET digest = x'00ff'").rowcount >= 8
        database.execute("UPDATE checked SET note = 3.5")
    done = run(tiny_dataset, out_dir, "--steps=eval_cam")
    assert done.status == 0, done.stderr
    assert "eval_cam  current" in done.stderr


def test_scores_of_a_step_that_were_changed_by_hand_are_counted_again(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    right = scores_of(finished_run.out_dir)["eval_cam"]["miou"]
    records = json.loads((finished_run.out_dir / "scores.settings.json").read_text())
    changes: dict[str, dict[str, Any]] = {
        "scores.json": scores_of(finished_run.out_dir) | {"eval_cam": {"miou": "high"}},
        "scores.settings.json": records | {"eval_cam": records["eval_cam"] | {"inputs": {"x": 1}}},
    }
    for name, content in changes.items():
        out_dir = copy_run(finished_run.out_dir, tmp_path / name)
        put(out_dir / name, json.dumps(content))
        done = run(tiny_dataset, out_dir, "--steps=eval_cam")
        assert done.status == 0, done.stderr
        assert "eval_cam  missing" in done.stderr
        assert scores_of(out_dir)["eval_cam"]["miou"] == right


def test_what_an_earlier_run_says_of_a_kept_step_may_be_anything(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    put(out_dir / "scores.json", json.dumps(scores_of(out_dir) | {"train_cam": {"loss": "low"}}))
    done = run(tiny_dataset, out_dir, "--steps=train_cam")
    assert done.status == 0, done.stderr
    assert "unknown: scores.json was changed" in done.stdout


def test_a_file_of_somebody_else_is_not_taken_for_scores(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    theirs = '{"experiment 3": {"accuracy": 0.9}}'
    put(tmp_path / "out" / "scores.json", theirs)
    flags = ["--steps=eval_cam", f"--cam_out_dir={finished_run.out_dir / 'cam'}"]
    done = run(tiny_dataset, tmp_path / "out", *flags)
    assert done.status == 2
    assert "does not hold scores of steps. Move it away, or choose another --out_dir" in done.stderr
    assert (tmp_path / "out" / "scores.json").read_text() == theirs


@pytest.mark.parametrize(
    "hostile",
    [
        {"images": {"../../precious": "x"}, "further": [".txt"]},
        {"images": {"a": "x"}, "further": ["/../../../precious.txt"]},
        {"images": {"a": "x"}, "suffixes": ["/../../../precious.txt"]},
        {"images": {"a": "x"}, "suffixes": 3},
        {"complete": ["../precious.txt"], "files": []},
    ],
)
def test_a_stranger_s_record_deletes_nothing_elsewhere(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, hostile: dict[str, Any]
) -> None:
    """A folder of results may have been downloaded with a replacement half done."""
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    record = {"settings": {}, "inputs": {}, "complete": True, "whole": True}
    more = {"suffixes": [".npy"], "further": []}
    is_weights = "files" in hostile
    folder = out_dir / ("weights/cam.pth.new" if is_weights else "cam/.new")
    put(folder / "settings.json", json.dumps(record | more | hostile))
    done = run(tiny_dataset, out_dir, "--steps=eval_cam")
    assert done.status == 2
    assert f"{folder / 'settings.json'} is not a record of settings" in done.stderr
    assert precious.read_text() == "mine"


def test_the_user_s_files_among_ours_stay_when_ours_are_replaced(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    for name in ("notes.png", "notes_crf.png", "plan.txt"):
        (out_dir / "sem_seg" / name).write_text("mine")
    flags = ["--steps=make_sem_seg", "--sem_seg_bg_thres=0.4", "--overwrite"]
    done = run(tiny_dataset, out_dir, *flags)
    assert done.status == 0, done.stderr
    assert contents(out_dir) != contents(finished_run.out_dir)
    for name in ("notes.png", "notes_crf.png", "plan.txt"):
        assert (out_dir / "sem_seg" / name).read_text() == "mine"


def test_the_benchmark_counts_again_what_it_cannot_read(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    flags = ["--steps=benchmark", f"--cam_out_dir={finished_run.out_dir / 'cam'}"]
    flags += ["--benchmark_act_thres=0.1,0.3", "--benchmark_sal_thres=0.5"]
    flags.append("--benchmark_choose_images=0")
    assert run(tiny_dataset, tmp_path / "out", *flags).status == 0
    folder = tmp_path / "out" / "benchmark"
    right = scores_of(tmp_path / "out")["benchmark"]["summary"]
    counts = folder / "counts" / "own" / "own.npz"
    with np.load(counts) as kept:
        arrays = {name: kept[name] for name in kept.files}
    for change in ({"done": np.zeros(3, bool)}, {"counts0": arrays["counts0"][..., :2]},
                   {"counts0": arrays["counts0"].astype(str)}):  # fmt: skip
        np.savez(counts, **(arrays | change))
        put(folder / "saliency" / "own.json", FOREIGN["kinds below"])
        done = run(tiny_dataset, tmp_path / "out", *flags)
        assert done.status == 0, done.stderr
        assert f"{counts} cannot be read" in done.stderr
        assert scores_of(tmp_path / "out")["benchmark"]["summary"] == right
    shutil.rmtree(folder)
