"""Every benchmark, one process each, and the tables of RESULTS.md.

python -m tests.benchmarks.all [--quick] [--json DIR] [--markdown FILE] [--squarings 1]
                               [--only random_walk,crf]
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.benchmarks.common import machine_info, markdown_table
from tests.helpers.paths import ROOT

ROWS = (
    "random_walk", "crf", "boundary_label", "sem_seg", "train_bes", "make_cam", "evaluation",
    "chain", "grid", "startup", "from_coco", "gpu",
)  # fmt: skip
KEPT = "<!-- real data: what follows is kept when the tables above are made anew -->"
WITH_SQUARINGS = ("random_walk", "sem_seg")
Results = dict[str, dict[str, Any]]


def run(names: Sequence[str], folder: Path, *, quick: bool, squarings: int) -> list[str]:
    """Run the benchmarks, each leaving `folder`/NAME.json; returns the names of those that failed.

    What they print, and why one failed, is seen as it comes.
    """
    failed = []
    for name in names:
        command = [sys.executable, "-m", f"tests.benchmarks.{name}"]
        command += ["--json", str(folder / f"{name}.json")]
        command += ["--quick"] if quick else []
        command += ["--squarings", str(squarings)] if name in WITH_SQUARINGS else []
        sys.stdout.write(f"\n$ python {' '.join(command[1:])}\n")
        sys.stdout.flush()
        start = time.monotonic()
        if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
            failed.append(name)
        sys.stdout.write(f"{name}: {time.monotonic() - start:.0f} s\n")
    return failed


def read_results(names: Sequence[str], folder: Path) -> Results:
    """What each benchmark left in `folder`; one that left nothing is not in it."""
    files = {name: folder / f"{name}.json" for name in names}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def markdown(results: Results, failed: Sequence[str], machine: Mapping[str, object]) -> str:
    """The text of RESULTS.md: machine, targets, and the table of every benchmark."""
    notes = [f"{name} {value}" for name, value in machine.items()]
    text = ["# How fast it is", "", "Made by `python -m tests.benchmarks.all`: " + ", ".join(notes)]
    if any(result["quick"] for result in results.values()):
        text += ["", "**A quick run: it shows that everything runs, and nothing about speed.**"]
    text += [f"\n**{name} failed.**" for name in failed]
    targets = [
        {"benchmark": name, **target}
        for name, result in results.items()
        for target in result["targets"]
    ]
    text += ["", "## Targets", "", markdown_table(targets)]
    for result in results.values():
        # JSON's null stands for what could not be measured; an empty cell for no such column.
        text += ["", f"## {result['title']}", "", markdown_table(result["rows"])]
    return "\n".join(text) + "\n"


def kept_part(file: Path) -> str:
    """What stands in an earlier `file` from the mark on; the mark alone where there is none."""
    earlier = file.read_text() if file.exists() else ""
    _, mark, rest = earlier.partition(KEPT)
    return f"\n{KEPT}\n" + (rest.lstrip("\n") if mark else "")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small inputs, one repeat (for CI)")
    parser.add_argument("--json", type=Path, metavar="DIR", help="keep each benchmark's JSON here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write all tables here")
    parser.add_argument("--only", default=",".join(ROWS), metavar="A,B", help="run just these")
    parser.add_argument(
        "--squarings", type=int, default=1, choices=range(1, 9),
        help="time so many dense squarings and extrapolate to 8 (default: 1)",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    names = args.only.split(",")
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        parser.error(f"--only: unknown {', '.join(unknown)}; there are {', '.join(ROWS)}")
    # Asked before anything runs: files written meanwhile are no change of the code.
    machine = machine_info()
    with TemporaryDirectory() as temporary:
        folder = args.json or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / f"{name}.json").unlink(missing_ok=True)
        failed = run(names, folder, quick=args.quick, squarings=args.squarings)
        text = markdown(read_results(names, folder), failed, machine)
    if args.markdown is not None:
        args.markdown.parent.mkdir(parents=True, exist_ok=True)
        args.markdown.write_text(text + kept_part(args.markdown))
    else:
        sys.stdout.write(text)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
