"""Stopped anywhere, a run goes on where it was and ends with the same files."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers.segmentation import SEG_FLAGS, SEG_STEPS
from tests.helpers.tiny import Run, arguments, contents, copy_run, run, start

pytestmark = pytest.mark.slow

# Where a run is killed: just before the COUNT-th file that matches PATTERN would get its name.
KILLS = [
    ("cam.pth.new/checkpoint", 2),
    ("cam.pth.new/cam.pth", 1),
    ("weights/cam.pth", 1),
    ("cam/*.npy", 4),
    ("scores.json", 1),
    ("scores.settings.json", 1),
    ("cam_vis/*.png", 3),
    ("boundary_label/*.png", 2),
    ("bes.pth.new/checkpoint", 2),
    ("bes.pth.new/bes.pth", 1),
    ("walk/*.npy", 5),
    ("sem_seg/*[0-9].png", 3),
    ("sem_seg/*_crf.png", 2),
]
SEG_KILLS = [
    ("seg.pth.new/checkpoint", 2),
    ("seg.pth.new/seg.pth", 1),
    ("seg/val/last/*[0-9].png", 2),
    ("seg/val/last/*_crf.png", 2),
    ("scores.json", 2),
]
KILLER = """
import os, signal, sys
from pathlib import Path
import run_sample, step.common.runner, step.common.predict

real = os.replace

def kill_before(pattern, count):
    def replace(source, target):
        nonlocal count
        count -= Path(target).match(pattern)
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        real(source, target)
    os.replace = replace

for pattern, count in KILLS:
    child = os.fork()
    if child == 0:
        kill_before(pattern, count)
        os._exit(run_sample.main(sys.argv[1:]))
    _, status = os.waitpid(child, 0)
    print(pattern, os.waitstatus_to_exitcode(status))
"""


def wait_for(path: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    """Wait until a file is there; fail with what the process said if it ends before."""
    while not any(path.glob(pattern)):
        if process.poll() is not None:
            pytest.fail(f"ended with {process.returncode}: {process.communicate()[1]}")
        time.sleep(0.01)


def wait_until_alone(group: int, seconds: float = 30) -> bool:
    """True as soon as no process of the group is left."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def killed_at(kills: list[tuple[str, int]], words: list[str]) -> str:
    """Start with `words` and be killed, at each of `kills` in turn; what was said to stderr."""
    process = start(["-c", KILLER.replace("KILLS", repr(kills)), *words])
    stdout, stderr = process.communicate(timeout=300)
    assert stdout.splitlines() == [f"{pattern} -9" for pattern, _ in kills], stderr
    return stderr


def test_killed_in_every_step_it_ends_with_the_same_files(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    stderr = killed_at(KILLS, arguments(tiny_dataset, tmp_path))
    for network in ("cam", "bes"):
        for step in (1, 3):
            assert f"train_{network}: resuming at step {step} of 4" in stderr
    assert run(tiny_dataset, tmp_path).status == 0
    assert contents(tmp_path) == contents(finished_run.out_dir)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["train_bes"]["images"] == 4  # of the last start, as its seconds are
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.rglob("*.new"))


def test_killed_in_every_step_of_deeplab_it_ends_with_the_same_files(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    flags = [SEG_STEPS, *SEG_FLAGS, "--seg_val_every=0"]
    whole, out_dir = (run(tiny_dataset, tmp_path / "whole", *flags), tmp_path / "killed")
    assert whole.status == 0, whole.stderr
    stderr = killed_at(SEG_KILLS, arguments(tiny_dataset, out_dir, *flags))
    for step in (2, 6):
        assert f"train_seg: resuming at step {step} of 8" in stderr
    assert run(tiny_dataset, out_dir, *flags).status == 0
    for name in ("weights", "seg"):
        ended, expected = (
            {p.relative_to(d): p.read_bytes() for p in (d / name).rglob("*.[pc][nts][ghv]")}
            for d in (out_dir, whole.out_dir)
        )
        assert ended == expected
        assert ended
    found, scored = (
        json.loads((d / "scores.json").read_text())["eval_seg"]["last"]
        for d in (out_dir, whole.out_dir)
    )
    assert found == scored
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.rglob("*.new"))


def test_killed_between_the_seal_of_weights_and_their_renaming_nothing_is_trained_again(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    flags = ["--steps=train_cam", "--seed=1"]
    older = copy_run(finished_run.out_dir, tmp_path / "older")
    for out_dir, more in ((tmp_path / "new", []), (older, ["--overwrite"])):
        before = contents(out_dir)
        words = arguments(tiny_dataset, out_dir, *flags, *more)
        killed_at([("weights/cam.pth", 1)], words)
        after = contents(out_dir)
        assert "weights/cam.pth.new/cam.pth" in after
        assert after.get("weights/cam.pth") == before.get("weights/cam.pth")
        shown = run(tiny_dataset, out_dir, *flags, "--plan")
        assert re.search(r"^train_cam +current", shown.stdout, re.MULTILINE), shown.stdout
        assert "Nothing to do." in run(tiny_dataset, out_dir, *flags).stderr
        sealed = contents(out_dir)
        assert sealed["weights/cam.pth"] == after["weights/cam.pth.new/cam.pth"]
        assert "weights/cam.pth.json" in sealed
        assert "weights/cam.pth.new/cam.pth" not in sealed


@pytest.mark.usefixtures("stop_signals_heeded")
@pytest.mark.parametrize("module", ["argparse", "numpy", "torch._utils"])
def test_ctrl_c_during_the_imports_is_answered_with_a_sentence(
    tiny_dataset: Path, tmp_path: Path, module: str
) -> None:
    words = ["-X", "importtime", "run_sample.py", *arguments(tiny_dataset, tmp_path)]
    process = start(words)
    assert process.stderr is not None
    while process.stderr.readline().rpartition("|")[2].strip() != module:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    said = [line for line in stderr.splitlines() if not line.startswith("import time:")]
    assert (process.returncode, stdout) == (130, "")
    assert said == ["", "Stopped. Run the same command again to resume."]
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("stop_signals_heeded")
@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9),
    ],
)  # fmt: skip
def test_no_worker_outlives_a_stopped_training(
    tiny_dataset: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    flags = ["--num_workers=2", "--cam_num_epoches=1000", "--steps=train_cam"]
    process = start(["run_sample.py", *arguments(tiny_dataset, tmp_path, *flags)])
    wait_for(tmp_path, "weights/cam.pth.new/checkpoint", process)
    try:
        if number in (signal.SIGKILL, signal.SIGTERM):
            process.send_signal(number)
        else:
            os.killpg(process.pid, number)  # as a terminal does
        stderr = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == status
    assert wait_until_alone(process.pid)
    assert "Traceback" not in stderr
    if number is not signal.SIGKILL:
        assert "leaked" not in stderr
        assert stderr.endswith("Run the same command again to resume.\n")
        (step,) = re.findall(r"train_cam: stopped at step (\d+) of 2000; a checkpoint", stderr)
        again = start(["run_sample.py", *arguments(tiny_dataset, tmp_path, *flags)])
        assert again.stderr is not None
        while f"train_cam: resuming at step {step} of 2000" not in again.stderr.readline():
            assert again.poll() is None
        again.kill()
        again.communicate(timeout=60)


def test_no_worker_outlives_a_killed_step(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    for path in [*out_dir.glob("boundary_label/*.png"), *out_dir.glob("cam_vis/*.png")]:
        path.unlink()
    flags = ["--num_workers=2", "--steps=make_boundary_label"]
    process = start(["run_sample.py", *arguments(tiny_dataset, out_dir, *flags)])
    wait_for(out_dir, "boundary_label/*.png", process)
    process.kill()
    process.communicate(timeout=60)
    assert wait_until_alone(process.pid)
