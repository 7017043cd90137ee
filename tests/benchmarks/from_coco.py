"""Converting COCO's annotations: reading a large JSON, drawing its masks, and a second call.

python -m tests.benchmarks.from_coco [--quick] [--json FILE] [--images 82783] [--num_workers 2]

Writes annotations with the numbers of train2014 (7.3 a image, 60 polygon coordinates each, one in a
hundred a crowd) and links to one photograph into a temporary folder (TMPDIR names another place).
Memory is that of the largest process, Python and numpy included.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from tests.benchmarks.common import Report, make_parser

FULL_COUNT, QUICK_COUNT = 82_783, 200
HEIGHT, WIDTH = 480, 640
LINKS_A_FILE = 30_000  # ext4 takes 65,000
ANNOTATIONS = (7, 7, 8)  # of one image after another
CORNERS = 30
CROWD_EVERY = 100
READ_ALONE = "import sys; from pathlib import Path; from voc12.from_coco.index import read_index;" \
    "read_index(Path(sys.argv[1]))"  # fmt: skip


def write_inputs(folder: Path, count: int) -> tuple[Path, Path]:
    """A JSON of `count` images and a folder with as many names of one photograph."""
    images, path = folder / "train2014", folder / "instances_train2014.json"
    images.mkdir()
    names = [f"COCO_train2014_{number:012d}.jpg" for number in range(count)]
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), np.uint8)
    Image.fromarray(picture).resize((WIDTH, HEIGHT)).save(images / names[0])
    for number, name in enumerate(names[1:], 1):
        source = images / names[number - number % LINKS_A_FILE]
        if number % LINKS_A_FILE:
            os.link(source, images / name)
        else:
            shutil.copyfile(images / names[0], source)
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"images": [')
        for number, name in enumerate(names):
            entry = {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH}
            file.write("," * (number > 0) + json.dumps(entry))
        file.write('], "annotations": [')
        numbers = itertools.count()
        for image in rng.permutation(count).tolist():
            for _ in range(ANNOTATIONS[image % len(ANNOTATIONS)]):
                number = next(numbers)
                file.write("," * (number > 0) + json.dumps(annotation(rng, number, image)))
        categories = [{"id": i, "name": f"class {i}"} for i in range(1, 81)]
        file.write(f'], "categories": {json.dumps(categories)}}}')
    return path, images


def annotation(rng: np.random.Generator, number: int, image: int) -> dict:
    """A crowd of vertical stripes now and then, else a ragged disc."""
    entry = {"id": number, "image_id": image, "category_id": 1 + number % 80, "iscrowd": 0}
    if number % CROWD_EVERY == 0:
        runs = [HEIGHT] * WIDTH
        return entry | {"iscrowd": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": runs}}
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    radii = rng.uniform(10, 120) * rng.uniform(0.7, 1, CORNERS)
    centre = rng.uniform([0, 0], [WIDTH, HEIGHT])
    corners = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    return entry | {"segmentation": [np.round(corners.ravel(), 2).tolist()]}


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds of `python COMMAND`, and MiB of its largest process."""
    code = (
        "import resource, subprocess, sys; "
        "subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr); "
        "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, sys.executable, *command],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    found = re.search(r"peak (\d+)", done.stdout)
    unit = 1024 if sys.platform == "linux" else 1 << 20
    return seconds, int(found[1]) / unit if found else float("nan")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, help="how many (default: those of train2014)")
    parser.add_argument("--num_workers", type=int, default=2, help="processes (default: 2)")
    args = parser.parse_args(arguments)
    count = args.images or (QUICK_COUNT if args.quick else FULL_COUNT)
    with TemporaryDirectory() as name:
        path, images = write_inputs(Path(name), count)
        report = Report(
            f"voc12.from_coco, {count} images, JSON of {path.stat().st_size / 1e6:.0f} MB",
            quick=args.quick,
        )
        convert = ["-m", "voc12.from_coco", f"--annotations={path}", f"--images={images}"]
        convert += [f"--out={name}/root", f"--num_workers={args.num_workers}"]
        for what, command in (
            ("read the JSON", ["-c", READ_ALONE, str(path)]),
            (f"convert, {args.num_workers} workers", convert),
            ("again, nothing pending", convert),
        ):
            seconds, peak = measure(command)
            report.add(what, seconds=seconds, images_a_second=count / seconds, peak_MiB=peak)
        masks = (Path(name) / "root" / "SegmentationClass").iterdir()
        report.add("masks", MB=sum(mask.stat().st_size for mask in masks) / 1e6)
        report.finish(args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
