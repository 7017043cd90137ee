"""What TensorBoard shows of a run: the curves of its trainings, and a few contact sheets.

Nothing is kept here alone: all comes from the CSVs beside the weights and from `panels`.
"""

import contextlib
import csv
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio

from misc.workspace import AddRow, TrainingCurve, content_digest, read_json, write_json
from step.graph import CURVE, Node, TrainingStep
from step.run import BOARD_FOLDER, Run

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SHEETS, SOURCES_NAME = "contact_sheets", "sources.json"
NUM_SHEETS = 4
SECONDS_A_FLUSH = 10
PACKAGE = "tensorboard"


def package_problem() -> str:
    """What to say where the package is missing; "" where it is there."""
    if importlib.util.find_spec(PACKAGE) is not None:
        return ""
    return f"--tensorboard yes needs the package {PACKAGE}. Install it: pip install {PACKAGE}"


class ShownCurve(TrainingCurve):
    """A curve that TensorBoard shows as it grows."""

    def __init__(self, path: Path, folder: Path) -> None:
        """Name the CSV, and the folder for TensorBoard."""
        super().__init__(path)
        self.folder = folder

    @contextlib.contextmanager
    def growing(self, updates: int) -> Iterator[AddRow]:
        with super().growing(updates) as add, _writer(self.folder) as writer:
            _show_table(writer, "train", self.path)

            def add_and_show(update: int, epoch: int, loss: float, rate: float) -> None:
                add(update, epoch, loss, rate)
                writer.add_scalar("train/loss", loss, update)
                writer.add_scalar("train/learning_rate", rate, update)

            yield add_and_show


def board_of(node: Node) -> Path:
    """The folder of a training's curves for TensorBoard."""
    return node.run.config.out_dir / BOARD_FOLDER / node.key


def write_board(run: Run, nodes: Iterable[Node], sheets: Path) -> None:
    """Bring up to date what TensorBoard shows: tables beside weights, and some contact sheets.

    Args:
        run: the run.
        nodes: every step and variant that there may be results of.
        sheets: the folder of the contact sheets.
    """
    for node in nodes:
        if isinstance(node.step, TrainingStep):
            weights = node.step.writes.file(node.run)
            tables = {"train" if ending == CURVE else ending.split(".")[1]: weights.beside(ending)
                      for ending in node.step.tables}  # fmt: skip
            there = {name: path for name, path in tables.items() if path.is_file()}
            if there and not weights.is_foreign() and _is_news(board_of(node), there.values()):
                with _writer(board_of(node)) as writer:
                    for name, path in there.items():
                        _show_table(writer, name, path)
                _remember(board_of(node), there.values())
    paths = sorted(sheets.glob("*.png"))[:NUM_SHEETS]
    folder = run.config.out_dir / BOARD_FOLDER / SHEETS
    if paths and _is_news(folder, paths):
        with _writer(folder) as writer:
            for path in paths:
                writer.add_image(path.stem, iio.imread(path), 0, dataformats="HWC")
        _remember(folder, paths)


@contextlib.contextmanager
def _writer(folder: Path) -> Iterator["SummaryWriter"]:
    """A writer whose events come in the place of all that was written there before."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder), purge_step=0, flush_secs=SECONDS_A_FLUSH)
    try:
        yield writer
    finally:
        writer.close()


def _show_table(writer: "SummaryWriter", name: str, path: Path) -> None:
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            update = int(row.pop("update"))
            row.pop("epoch", None)
            for column, value in row.items():
                writer.add_scalar(f"{name}/{column}", float(value), update)


def _is_news(folder: Path, paths: Iterable[Path]) -> bool:
    """Whether these files are not what was shown in a folder last."""
    return _shown_last(folder).get(folder.name) != _contents(paths)


def _remember(folder: Path, paths: Iterable[Path]) -> None:
    """Note that these files are shown in a folder now."""
    write_json(folder.parent / SOURCES_NAME, _shown_last(folder) | {folder.name: _contents(paths)})


def _shown_last(folder: Path) -> dict[str, Any]:
    memory = folder.parent / SOURCES_NAME
    return read_json(memory) if memory.exists() else {}


def _contents(paths: Iterable[Path]) -> dict[str, str]:
    return {path.name: content_digest(path) for path in paths}
