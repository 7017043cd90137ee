"""Adding a step is one file and one line: everything general is the runner's."""

import json
import signal
from pathlib import Path

import pytest

from tests.helpers.project import project_with_step, start_in
from tests.helpers.tiny import Run, copy_run, states

# The one file: reads CAMs, writes one PNG per image, has a setting of its own.
TOY = '''
"""Where any class is active: a toy."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from PIL import Image

from misc.config import setting
from misc.runtime import WorkerPool
from misc.workspace import ImageFolder, atomic_write
from step.artefacts import CAMS
from step.common.results import CamFile, CamReader
from step.graph import ImageFiles, ImageStep, Tile, Work
from voc12.picture_sizes import IMAGE, sizes_of

if TYPE_CHECKING:
    from step.run import Run


def draw(folder: ImageFolder, image_id: str, image: np.ndarray) -> list[Tile]:
    path = folder.file(image_id)
    if not path.exists():
        return []
    with Image.open(path) as picture:
        return [Tile("toy", np.array(picture.convert("RGB")))]


TOYS = ImageFiles(
    "the toys", "toy_dir", "active pixels", "toy", image_bytes=lambda size: 10**6, draw=draw
)


@dataclass(frozen=True)
class Settings:
    """What is active."""

    heading: ClassVar[str] = "toy"

    toy_thres: float = setting(0.5, "activation from which a pixel counts", at_least=0, at_most=1)


class MakeToy(ImageStep):
    """White where any class is active."""

    help = "active pixels of every image"
    reads = (CAMS,)
    writes = TOYS
    flags = Settings

    def images(self, run: "Run") -> list[str]:
        return run.train_ids

    def make(self, work: Work, *, toy_thres: float) -> Iterator[object]:
        cams, sizes = CAMS.made(work.run), sizes_of(work.run.dataset, IMAGE)
        items = [(i, file, sizes[i]) for i, file in cams.files(work.ids).items()]
        job = partial(make_one, read=cams.reader, folder=work.files, thres=toy_thres)
        with WorkerPool(work.run.runtime.num_workers) as pool:
            yield from pool.map(job, items)


def make_one(
    item: tuple[str, CamFile, tuple[int, int]], *, read: CamReader, folder: ImageFolder,
    thres: float,
) -> None:
    image_id, file, size = item
    active = (read(file, size, "high_res").high_res > thres).any(0)
    with atomic_write(folder.file(image_id)) as target:
        Image.fromarray(active.astype(np.uint8) * 255).save(target, "PNG")
'''
FLAGS = [
    "--backbone=resnet18", "--backbone_weights=none", "--num_workers=0", "--device=cpu",
    "--steps=make_toy",
]  # fmt: skip
KILL_AT_THE_FOURTH = """
import os, signal, sys
import run_sample
replace, left = os.replace, 4
def kill(source, target):
    global left
    left -= str(target).endswith(".png")
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = kill
run_sample.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the toy step."""
    return project_with_step(tmp_path_factory.mktemp("project"), "make_toy", TOY, after="eval_cam")


@pytest.mark.slow
def test_a_toy_step_has_all_that_a_step_has(
    tree: Path, tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    flags = [f"--data_root={tiny_dataset}", f"--out_dir={out_dir}", *FLAGS]
    run = ["run_sample.py", *flags]

    helped = " ".join(start_in(tree, "run_sample.py", "--help", "all").stdout.split())
    assert "--make_toy_pass" in helped
    assert "--toy_thres X activation from which a pixel counts (default: 0.5)" in helped
    assert "--toy_dir PATH active pixels" in helped

    planned = start_in(tree, *run, "--plan").stdout
    assert "make_toy  missing  8 of 8 missing  8" in planned
    assert not (out_dir / "toy").exists()

    killed = start_in(tree, "-c", KILL_AT_THE_FOURTH, *flags, "--panels=0")
    assert killed.returncode == -signal.SIGKILL
    assert len(list((out_dir / "toy").glob("*.png"))) == 3
    before = states(out_dir / "toy")
    assert "make_toy  missing  5 of 8 missing  5" in start_in(tree, *run, "--plan").stdout
    resumed = start_in(tree, *run, "--panels=1")
    assert resumed.returncode == 0, resumed.stderr
    assert "make_toy: the toys of 5 images will take about 5.0 MB" in resumed.stderr
    made = states(out_dir / "toy")
    assert len(list((out_dir / "toy").glob("*.png"))) == 8
    kept = {name for name, state in made.items() if before.get(name) == state}
    assert len(kept - {"settings.json"}) == 3
    assert json.loads((out_dir / "scores.json").read_text())["make_toy"]["images"] == 5

    again = start_in(tree, *run, "--panels=1")
    assert "make_toy  kept" in again.stdout
    assert states(out_dir / "toy") == made

    stale = start_in(tree, *run, "--toy_thres=0.4")
    assert stale.returncode == 2
    assert "make_toy: --toy_thres was 0.5, is 0.4" in stale.stderr
    redone = start_in(tree, *run, "--toy_thres=0.4", "--overwrite", "--panels=0")
    assert redone.returncode == 0, redone.stderr
    assert states(out_dir / "toy").keys() == made.keys()

    full = start_in(tree, "-c", FULL_DISK, *flags, "--toy_thres=0.3", "--overwrite")
    assert full.returncode == 2
    assert "the toys of 8 images need 8.0 MB" in full.stderr
    assert "choose another --toy_dir" in full.stderr


FULL_DISK = """
import shutil, sys
from types import SimpleNamespace
import run_sample
shutil.disk_usage = lambda _: SimpleNamespace(free=(1 << 28) + 10**6)
sys.exit(run_sample.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_it_shows_on_the_contact_sheet(
    tree: Path, tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    code = (
        "import sys, run_sample, misc.visualize as v\n"
        "real = v.make_panel\n"
        "def note(tiles, *more):\n"
        "    print('tiles', [title for title, _ in tiles])\n"
        "    return real(tiles, *more)\n"
        "v.make_panel = note\n"
        "import step.common.panels as p\n"
        "p.make_panel = note\n"
        "sys.exit(run_sample.main(sys.argv[1:]))\n"
    )
    flags = [f"--data_root={tiny_dataset}", f"--out_dir={out_dir}", *FLAGS, "--panels=1"]
    done = start_in(tree, "-c", code, *flags)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("tiles"))
    tiles = line.partition(" ")[2]
    assert tiles.index("CAM") < tiles.index("'toy'") < tiles.index("confident regions")
