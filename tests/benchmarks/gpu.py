"""Every step on one GPU, or with --device cpu on the CPU; each row in a process of its own.

python -m tests.benchmarks.gpu [--quick] [--device cuda] [--images 500] [--photographs DIR]
                               [--only walk,train_bes_bf16] [--json FILE]

The images have VOC's many sizes. A row that fails is named with its error, and the others still
run; the exit status is then 1. Without a GPU, unless --device says cpu, nothing is measured.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tests.benchmarks.common import Report, make_parser
from tests.benchmarks.gpu_rows import ROWS, Bench, Row
from tests.helpers.paths import ROOT

QUICK_IMAGES = 2
COLUMNS = ("value", "peak_mib", "differing", "in_bf16")
NEEDS_GPU = "needs a GPU"  # what a run says of fp16 on the CPU


def measure_apart(bench: Bench, name: str) -> dict[str, Any]:
    """The numbers of a row, measured in a process of its own, or its `error`."""
    file = bench.root / f"{name}.json"
    command = [
        sys.executable, "-m", "tests.benchmarks.gpu", f"--row={name}", f"--root={bench.root}",
        f"--device={bench.device}", f"--images={bench.images}", f"--json={file}",
        *(["--quick"] if bench.quick else []),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(file.read_text())
    lines = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"]
    return {"error": lines[-1]}


def add_row(report: Report, row: Row, found: dict[str, Any], device: str) -> bool:
    """Add what was found of a row; False if it failed."""
    error = found.get("error")
    value = found.get("value")
    is_refused = row.precision == "fp16" and device == "cpu" and NEEDS_GPU in (error or "")
    if error is not None:
        found = {"value": f"{'refused' if is_refused else 'failed'}: {error}"}
    columns = {name: number for name, number in found.items() if name in COLUMNS}
    others = {name: number for name, number in found.items() if name not in COLUMNS}
    more = ", ".join(f"{name} {number:.4g}" for name, number in others.items())
    report.add(row.what, **columns, **({"more": more} if more else {}))
    if row.target:
        report.target(row.what, value, **row.target)
    return error is None or is_refused


def measure(report: Report, bench: Bench, names: Sequence[str]) -> list[str]:
    """Measure rows in an order in which later ones find what they need; which of them failed."""
    failed = []
    for name in names:
        sys.stderr.write(f"{name}\n")
        if not add_row(report, ROWS[name], measure_apart(bench, name), bench.device):
            failed.append(name)
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__, device=None)
    add = parser.add_argument
    add("--images", type=int, default=500, help="images of a step (default: 500)")
    add(
        "--photographs",
        type=Path,
        metavar="DIR",
        help="take the photographs of this dataset (VOC's layout, with exact masks)",
    )
    add("--only", default=",".join(ROWS), metavar="A,B", help="just these rows, and what they need")
    add("--row", choices=ROWS, help="measure this row here, with what lies below --root")
    add("--root", type=Path, help="for --row")  # fmt: skip
    args = parser.parse_args(arguments)
    chosen = args.only.split(",")
    unknown = [name for name in chosen if name not in ROWS]
    if unknown:
        parser.error(f"--only: unknown {', '.join(unknown)}; there are {', '.join(ROWS)}")
    needed = {*chosen, *(ROWS[name].needs for name in chosen)}
    names = [name for name in ROWS if name in needed]
    if args.row is not None:
        bench = Bench(args.root, args.device, args.images, args.quick)
        args.json.write_text(json.dumps(ROWS[args.row].measure(bench)))
        return 0
    has_card = torch.cuda.is_available()
    if args.device == "cuda" and not has_card:
        sys.stderr.write("--device cuda: no CUDA device found. --device cpu measures every row.\n")
        return 2
    device = args.device or ("cuda" if has_card else None)
    where = {None: "no card", "cpu": "no, on the CPU"}.get(device) or torch.cuda.get_device_name()
    images = QUICK_IMAGES if args.quick else args.images
    report = Report(f"On a GPU: {where}, {images} images of many sizes", quick=args.quick)
    failed: list[str] = []
    if device is None:
        sys.stderr.write("No CUDA device: nothing is measured. --device cpu measures every row.\n")
        for name in names:
            add_row(report, ROWS[name], {"value": None}, "cpu")
    else:
        with TemporaryDirectory() as folder:
            bench = Bench(Path(folder), device, images, args.quick)
            bench.prepare(args.photographs)
            failed = measure(report, bench, names)
    report.finish(args.json)
    if failed:
        sys.stderr.write(f"Failed: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
