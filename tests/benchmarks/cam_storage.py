"""How many pixels of argmax([threshold, CAM]) change in smaller CAM files, and their sizes.

python -m tests.benchmarks.cam_storage CAM_FOLDER IMAGE_FOLDER [--count 60] [--json FILE]
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from misc.cam_files import CamFolder, read_cams, write_irn
from misc.images import image_size
from tests.benchmarks.common import Report, make_parser

THRESHOLD = 0.21
WAYS = {
    "float32": ("float32", True),
    "float16": ("float16", True),
    "without full-size maps": ("float32", False),
    "float16, without full-size maps": ("float16", False),
}


def regions(high_res: np.ndarray) -> np.ndarray:
    """Indices (H,W) of argmax over [THRESHOLD, maps (K,H,W)]."""
    return np.pad(high_res, ((1, 0), (0, 0), (0, 0)), constant_values=THRESHOLD).argmax(0)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("cams", type=Path, help="folder of CAMs, any dialect")
    parser.add_argument("images", type=Path, help="folder of their images, .jpg")
    parser.add_argument("--count", type=int, default=60, help="images, evenly spread (default: 60)")
    parser.add_argument("--num_classes", type=int, default=20, help="default: 20")
    args = parser.parse_args(arguments)
    folder = CamFolder(args.cams, num_classes=args.num_classes, cam_format="auto")
    ids = sorted(path.stem for path in args.cams.glob("*.npy"))
    ids = [ids[place] for place in np.linspace(0, len(ids) - 1, args.count).astype(int)]
    changed: dict[str, list[float]] = {way: [] for way in WAYS}
    bytes_of: dict[str, list[int]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "cam.npy"
        for image_id in ids:
            size = image_size(args.images / f"{image_id}.jpg")
            cams = folder.read(image_id, size)
            expected = regions(cams.high_res)
            for way, (dtype, high_res) in WAYS.items():
                with open(path, "wb") as file:
                    write_irn(file, cams, dtype, high_res=high_res)
                stored = read_cams(path, size, num_classes=args.num_classes)
                changed[way].append(float(np.mean(regions(stored.high_res) != expected)))
                bytes_of[way].append(path.stat().st_size)
    report = Report(f"Smaller CAM files, {len(ids)} images", quick=args.quick)
    for way in WAYS:
        report.add(
            way, MB_an_image=float(np.mean(bytes_of[way])) / 1e6,
            percent_changed=100 * float(np.mean(changed[way])),
            percent_changed_at_most=100 * max(changed[way]),
        )  # fmt: skip
    report.finish(args.json)


if __name__ == "__main__":
    main()
