"""Dead workers, limits, full memory, closed streams: a sentence, a status, and nothing is lost."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.helpers.forks import Ended, runs_with
from tests.helpers.tiny import Run, arguments, contents, copy_run, run

pytestmark = pytest.mark.slow

# Just after the first file of this pattern has got its name, a process is killed.
KILL = """
import signal
from multiprocessing import active_children, forkserver
from pathlib import Path
import torch.utils.data._utils as data_utils

data_utils.MP_STATUS_CHECK_INTERVAL = 0.2  # seconds until torch looks after its workers
replace = os.replace

def fault(pattern, victim):
    def replace_and_kill(source, target):
        replace(source, target)
        if Path(target).match(pattern):
            server = forkserver._forkserver._forkserver_pid
            victims = [server] if victim == "server" else [p.pid for p in active_children()]
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
    os.replace = replace_and_kill
"""
DEATHS = [
    ("train_cam", "cam.pth.new/checkpoint", "worker", 2),
    ("train_cam", "cam.pth.new/checkpoint", "server", 2),
    ("make_cam", "cam/*.npy", "worker", 2),
    ("make_walk", "walk/*.npy", "worker", 2),
]
LIMIT = """
import resource

def fault(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
"""
STREAMS = """
def fault(*kinds):
    for number, kind in zip((1, 2), kinds):
        if kind == "closed":
            os.close(number)
            setattr(sys, {1: "stdout", 2: "stderr"}[number], None)  # as Python starts then
        elif kind == "broken":
            nobody_reads, written = os.pipe()
            os.close(nobody_reads)
            os.dup2(written, number)
        elif kind == "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), number)
"""
SAID_OF_WORKERS = (
    "A worker process died: somebody killed it, or memory or shared memory (/dev/shm) ran out. "
    "Finished work is kept: run the same command again, with fewer --num_workers if it happens "
    "again.\n"
)


def without(finished: Run, out_dir: Path, names: Sequence[str]) -> Path:
    """A copy of the finished run without the files of these patterns."""
    copy_run(finished.out_dir, out_dir)
    for name in names:
        for path in out_dir.glob(name):
            path.unlink()
    return out_dir


def test_a_dead_worker_is_named_and_the_same_command_goes_on(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    made = {"train_cam": "weights/cam.pth*", "make_cam": "cam/*.npy", "make_walk": "walk/*.npy"}
    # so many epochs that workers have not read the last batch when they die
    more = {"train_cam": ["--cam_num_epoches=20"], "make_cam": [], "make_walk": []}
    trained = without(finished_run, tmp_path / "trained", [made["train_cam"]])
    assert run(tiny_dataset, trained, "--steps=train_cam", *more["train_cam"]).status == 0
    undisturbed = {"train_cam": trained}
    cases, out_dirs = [], []
    for number, (step, pattern, victim, _) in enumerate(DEATHS):
        out_dir = without(finished_run, tmp_path / str(number), [made[step]])
        flags = ["--num_workers=2", f"--steps={step}", *more[step]]
        cases.append(((pattern, victim), arguments(tiny_dataset, out_dir, *flags)))
        out_dirs.append(out_dir)
    for (step, _, _, status), each in zip(DEATHS, runs_with(KILL, cases), strict=True):
        assert (step, each.status) == (step, status), each.stderr
        assert each.stderr.endswith(SAID_OF_WORKERS)
        assert "Traceback" not in each.stderr
    for (step, *_), out_dir in zip(DEATHS, out_dirs, strict=True):
        again = run(tiny_dataset, out_dir, f"--steps={step}", *more[step])
        assert again.status == 0, again.stderr
        assert step != "train_cam" or "train_cam: resuming at step" in again.stderr
        assert contents(out_dir) == contents(undisturbed.get(step, finished_run.out_dir))


def test_files_larger_than_the_limit_are_named_with_the_limit(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    flags = arguments(tiny_dataset, tmp_path, "--steps=train_cam")
    (ended,) = runs_with(LIMIT, [((1_000_000,), flags)])
    assert ended.status == 2
    assert ended.stderr.endswith(
        "but the limit of the size of files (ulimit -f) is 1.0 MB. Raise it, or choose another "
        "--cam_weights_name.\n"
    )
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "weights").exists()


def test_memory_that_runs_out_is_said_with_what_needs_less(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_dir = without(finished_run, tmp_path / "out", ["cam/2007_000003.npy"])

    def too_much(*_args: object, **_options: object) -> None:
        torch.empty(10**15)

    with monkeypatch.context() as patch:
        patch.setattr("net.cam.combine_scales", too_much)
        ended = run(tiny_dataset, out_dir, "--steps=make_cam")
    assert ended.status == 2
    assert ended.stderr.endswith(
        "Out of memory (4000000000000000 bytes were wanted). Finished work is kept: run the same "
        "command again, with fewer --num_workers or smaller batches (such as --cam_batch_size), or "
        "where more memory is free.\n"
    )
    assert run(tiny_dataset, out_dir, "--steps=make_cam").status == 0
    assert contents(out_dir) == contents(finished_run.out_dir)


KINDS = [
    ("closed", "open"), ("open", "closed"), ("closed", "closed"), ("broken", "open"),
    ("open", "broken"), ("broken", "broken"), ("open", "full"), ("full", "open"),
]  # fmt: skip


def test_work_goes_on_without_anybody_to_tell(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    names = ["boundary_label/*.png", "cam_vis/*.png"]
    out_dirs = [without(finished_run, tmp_path / "_".join(kinds), names) for kinds in KINDS]
    steps = "--steps=make_boundary_label,eval_cam"
    cases = [
        (kinds, arguments(tiny_dataset, out_dir, steps, "--num_workers=1"))
        for kinds, out_dir in zip(KINDS, out_dirs, strict=True)
    ]
    for kinds, out_dir, each in zip(KINDS, out_dirs, runs_with(STREAMS, cases), strict=True):
        assert contents(out_dir) == contents(finished_run.out_dir), kinds
        assert each.status == (2 if kinds[0] == "full" else 0), (kinds, each.stderr)
        assert_is_quiet(each)
        assert (each.stdout == "") == (kinds[0] != "open")
        assert (each.stderr == "") == (kinds[1] != "open")
        log = (out_dir / "sample_train_eval.log").read_text()
        assert "make_boundary_label: 8 images" in log
        if kinds[0] == "full":
            assert each.stderr.endswith(
                "What belongs on stdout could not be written: [Errno 28] No space left on device.\n"
            )


def assert_is_quiet(ended: Ended) -> None:
    for word in ("Traceback", "Exception ignored", "BrokenPipe"):
        assert word not in ended.stderr
