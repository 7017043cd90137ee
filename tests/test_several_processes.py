"""Several processes share the work: they make the files of one, and none waits for a dead one."""

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import resnet18

from misc.runtime import RUN_LOST
from tests.helpers.tiny import ROOT, Run, arguments, contents, copy_run, run, start

pytestmark = pytest.mark.slow

SECONDS = 600  # of patience with a busy machine; no test should need them
# Two processes as torchrun would start them, from one that has imported what takes long.
BY_HAND = """
import os, sys
import run_sample, step.common.runner, step.common.predict
from misc.command_line import end_process

PREPARE

def run_rank(rank):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    end_process(run_sample.main(sys.argv[1:]))

os.environ.update(
    WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="A_FREE_ONE"
)
ranks = []
for rank in range(2):
    ranks.append(os.fork())
    if ranks[-1] == 0:
        run_rank(rank)
statuses = [os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks]
print("statuses", *statuses, flush=True)
"""
# A download that takes a while, so that two at once would be seen.
SLOW_DOWNLOAD = """
import shutil, time
import torch

def download(url, path, *args, **kwargs):
    with open(CALLS, "a") as file:
        file.write(f"{os.environ['RANK']}\\n")
    time.sleep(1)
    shutil.copy(WEIGHTS, path)

torch.hub.get_dir = lambda: CACHE
torch.hub.download_url_to_file = download
"""
# run_sample.py, but rank 1 dies just before its second mask would get its name.
DYING = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, ROOT)
import run_sample
from misc.command_line import end_process

replace, made = os.replace, []

def replace_or_die(source, target):
    made.extend([target] * Path(target).match("sem_seg/*_crf.png"))
    if os.environ["RANK"] == "1" and len(made) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = replace_or_die
end_process(run_sample.main(sys.argv[1:]))
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def torchrun(*options: str) -> subprocess.Popen[str]:
    return start(["-m", "torch.distributed.run", *options])


def by_hand(prepare: str, *flags: str) -> subprocess.Popen[str]:
    code = BY_HAND.replace("PREPARE", prepare).replace("A_FREE_ONE", str(free_port()))
    return start(["-c", code, *flags])


def two_nodes(script: Path, *flags: str) -> list[tuple[int, str]]:
    """Status and stderr of two launchers that meet at a port and share the output folder alone."""
    port = free_port()
    nodes = [
        torchrun(
            "--nnodes=2", f"--node_rank={rank}", "--nproc_per_node=1",
            "--master_addr=127.0.0.1", f"--master_port={port}", str(script), *flags,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [node.communicate(timeout=SECONDS)[1] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
            node.communicate()
    return [(node.returncode, stderr) for node, stderr in zip(nodes, said, strict=True)]


def without(out_dir: Path, *names: str) -> Path:
    """The copy of a run without what some steps made."""
    for name in names:
        path = out_dir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return out_dir


def scores_of(out_dir: Path) -> dict[str, Any]:
    return json.loads((out_dir / "scores.json").read_text())


def test_two_processes_make_the_files_of_one(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    made = ("cam", "cam_vis", "boundary_label", "walk", "sem_seg", "panels", "scores.json")
    out_dir = without(copy_run(finished_run.out_dir, tmp_path / "out"), *made)
    flags = arguments(tiny_dataset, out_dir, "--panels=2")
    process = torchrun("--standalone", "--nproc_per_node=2", "run_sample.py", *flags)
    stdout, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, stderr
    assert contents(out_dir) == contents(finished_run.out_dir)
    # One process scores, reports and logs.
    alone, shared = scores_of(finished_run.out_dir), scores_of(out_dir)
    assert shared["eval_sem_seg"]["miou_crf"] == alone["eval_sem_seg"]["miou_crf"]
    assert shared["eval_cam"]["best"] == alone["eval_cam"]["best"]
    assert shared["make_sem_seg"]["images"] == 8
    log = (out_dir / "sample_train_eval.log").read_text()
    for step in ("eval_cam", "make_boundary_label", "make_walk", "eval_walk", "make_sem_seg",
                 "eval_sem_seg"):  # fmt: skip
        assert len(re.findall(rf"^{step} ", stdout, re.MULTILINE)) == 1, stdout
        assert len(re.findall(rf"INFO \[\d+/\d+\] {step}: (?:8 images|mIoU)", log)) == 1, log


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the download would bring."""
    folder = tmp_path_factory.mktemp("imagenet")
    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), folder / "download.pth")
    return folder


def test_two_processes_train_the_boundary_network_of_one_after_one_download(
    tiny_dataset: Path, finished_run: Run, imagenet: Path, tmp_path: Path
) -> None:
    weights = ("weights/bes.pth", "weights/bes.pth.json")
    alone = without(copy_run(finished_run.out_dir, tmp_path / "alone"), *weights)
    shared = without(copy_run(finished_run.out_dir, tmp_path / "shared"), *weights)
    flags = ["--steps=train_bes", "--bes_backbone=pretrained", "--backbone_weights"]
    values = {"CALLS": "calls.txt", "CACHE": "cache", "WEIGHTS": "download.pth"}
    prepare = SLOW_DOWNLOAD
    for word, name in values.items():
        prepare = prepare.replace(word, repr(str(imagenet / name)))
    process = by_hand(prepare, *arguments(tiny_dataset, shared, *flags, "imagenet"))
    one = run(tiny_dataset, alone, *flags, str(imagenet / "download.pth"))
    assert one.status == 0, one.stderr
    stdout, stderr = process.communicate(timeout=SECONDS)
    assert "statuses 0 0" in stdout, stderr
    assert (imagenet / "calls.txt").read_text() == "0\n"
    expected = torch.load(alone / "weights" / "bes.pth", weights_only=True)
    trained = torch.load(shared / "weights" / "bes.pth", weights_only=True)
    assert trained.keys() == expected.keys()
    before = torch.load(imagenet / "download.pth", weights_only=True)
    for name, value in expected.items():
        assert float((trained[name] - value).abs().max()) <= 1e-4, name
        if name.startswith("backbone."):  # it is frozen, so it is what was downloaded
            downloaded = before[name.removeprefix("backbone.")]
            assert torch.equal(trained[name], downloaded), name


def test_a_download_that_fails_ends_both_with_one_message(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = without(copy_run(finished_run.out_dir, tmp_path / "out"), "weights")
    prepare = f"import torch\ntorch.hub.get_dir = lambda: {str(tmp_path)!r}\n" + (
        "def fail(*args, **kwargs): raise OSError('no route to host')\n"
        "torch.hub.download_url_to_file = fail"
    )
    flags = ["--steps=train_bes", "--bes_backbone=pretrained", "--backbone_weights=imagenet"]
    process = by_hand(prepare, *arguments(tiny_dataset, out_dir, *flags))
    stdout, stderr = process.communicate(timeout=SECONDS)
    assert "statuses 2 2" in stdout, stderr
    assert stderr.count("Cannot download the ImageNet weights of resnet18") == 1
    assert "Traceback" not in stderr


def test_a_refusal_is_heard_under_torchrun(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    flags = arguments(tiny_dataset, out_dir, "--sem_seg_bg_thres=0.3")
    process = torchrun("--standalone", "--nproc_per_node=2", "run_sample.py", *flags)
    _, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert stderr.count("--steps eval_walk,make_sem_seg,eval_sem_seg --overwrite") == 1, stderr
    assert "Stopped." not in stderr
    assert contents(out_dir) == contents(finished_run.out_dir)


def test_a_stop_of_one_process_is_obeyed_by_both_with_a_checkpoint(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    prepare = """
import signal
from misc.training import state
finite = state.TrainingState.finite

def finite_and_ask(self, loss, done):
    if os.environ["RANK"] == "1" and done == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    return finite(self, loss, done)

state.TrainingState.finite = finite_and_ask
"""
    flags = ["--steps=train_cam", "--checkpoint_every=60"]
    process = by_hand(prepare, *arguments(tiny_dataset, tmp_path / "out", *flags))
    stdout, stderr = process.communicate(timeout=SECONDS)
    assert "statuses 143 143" in stdout, stderr
    assert "train_cam: stopped at step 3 of 4; a checkpoint is kept" in stderr
    again = run(tiny_dataset, tmp_path / "out", *flags)
    assert "train_cam: resuming at step 3 of 4" in again.stderr


def test_a_killed_rank_ends_the_run_by_name_and_a_new_start_goes_on(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = without(copy_run(finished_run.out_dir, tmp_path / "out"), "sem_seg", "scores.json")
    flags = arguments(tiny_dataset, out_dir, "--steps=make_sem_seg,eval_sem_seg")
    script = tmp_path / "dying.py"
    script.write_text(DYING.replace("ROOT", repr(str(ROOT))))
    (status, stderr), (status_of_killed, _) = two_nodes(script, *flags)
    assert status_of_killed == 1
    assert status == 1
    assert re.search(r"Rank 1 \(process \d+ on .+\) was lost: ", stderr), stderr
    assert "with the same command to resume." in stderr
    assert re.search(rf"exitcode *: {RUN_LOST} ", stderr), stderr
    unfinished = {k: v for k, v in contents(out_dir).items() if not k.endswith(".partial")}
    finished = contents(finished_run.out_dir)
    assert unfinished.items() < finished.items()
    for status, stderr in two_nodes(ROOT / "run_sample.py", *flags):
        assert status == 0, stderr
    assert contents(out_dir) == finished
    assert scores_of(out_dir)["make_sem_seg"]["images"] == 8 - len(
        [name for name in unfinished if name.endswith("_crf.png")]
    )
