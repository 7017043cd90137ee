"""Compare runs side by side.

python -m step.report A B C --to DIR
"""

from misc.signals import leave_when_stopped

if __name__ == "__main__":
    leave_when_stopped()  # before the imports, which take a while

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from misc.command_line import exit_status, run_as_program
from misc.seeds import add_resampling_flags
from step.report.side_by_side import compare_runs


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m step.report",
        description="Compare runs on one page: scores, with intervals over seeds and over images, "
        "the settings that differ, and the images that gained and lost most. Each run needs its "
        "own report, which it has unless it was switched off.",
    )
    parser.add_argument(
        "runs", metavar="RUN", nargs="+",
        help="output folder of a run (its --out_dir), or name=folder; the others are compared with "
        "the first",
    )  # fmt: skip
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder of the page")
    add_resampling_flags(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line and return the exit status."""
    args = build_parser().parse_args(arguments)

    def work() -> None:
        page = compare_runs(args.runs, args.to, args.resamples, args.seed)
        sys.stdout.write(f"{page}\n")

    return exit_status(work, "--to")


if __name__ == "__main__":
    run_as_program(main)
