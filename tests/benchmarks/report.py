"""Seconds and bytes of the report, of drawn images or of photographs under many ids.

python -m tests.benchmarks.report [--counts 80,2000,10582] [--photographs VOC]
"""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import run_sample
from misc.cam_files import Cams, write_irn
from misc.images import image_size
from misc.saliency import read_saliency
from tests.benchmarks.common import Report, make_parser
from tests.helpers.masks_of_many import draw_many

SOURCES = 40  # different photographs; the others are links to them
A_PAGE = 36


def link_photographs(source: Path, root: Path, count: int) -> Path:
    """A dataset `root/voc` of so many links to photographs, with everything that a run makes.

    Exact masks stand in for masks, saliency maps for CAMs.
    """
    voc, out = root / "voc", root / "out"
    names = (source / "ImageSets/Segmentation/train.txt").read_text().split()[:SOURCES]
    ids = [f"{names[k % SOURCES]}_{k:05d}" for k in range(count)]
    (voc / "ImageSets/Segmentation").mkdir(parents=True)
    (voc / "ImageSets/Segmentation/train.txt").write_text("\n".join(ids) + "\n")
    cams = root / "cams"
    cams.mkdir()
    for name in names:
        saliency = read_saliency(source / "Sal" / f"{name}.png")[None]
        height, width = image_size(source / "JPEGImages" / f"{name}.jpg")
        small = np.ascontiguousarray(
            saliency[:, : height - height % 4 : 4, : width - width % 4 : 4]
        )
        small = np.pad(small, ((0, 0), (0, -(-height // 4) - small.shape[1]),
                               (0, -(-width // 4) - small.shape[2])))  # fmt: skip
        with open(cams / f"{name}.npy", "wb") as file:
            write_irn(file, Cams(np.array([1]), small, saliency), "float32", high_res=True)
    truth = source / "SegmentationClass"
    links = [
        (source / "JPEGImages", voc / "JPEGImages", ".jpg", ""),
        (source / "Sal", voc / "Sal", ".png", ""),
        (truth, voc / "SegmentationClass", ".png", ""),
        (truth, root / "masks", ".png", ""),
        (truth, root / "masks", ".png", "_crf"),
        (cams, out / "cam", ".npy", ""),
        (source / "Sal", out / "walk" / "boundary", ".png", ""),
    ]
    for original, folder, suffix, ending in links:
        folder.mkdir(parents=True, exist_ok=True)
        for number, image_id in enumerate(ids):
            target = original.resolve() / f"{names[number % SOURCES]}{suffix}"
            link = folder / f"{image_id}{ending}{suffix}"
            if suffix == ".npy":  # which is not read where it leads out of its folder
                link.hardlink_to(target)
            else:
                link.symlink_to(target)
    return voc


def timed_report(voc: Path, root: Path, workers: int) -> tuple[float, float]:
    """Wall and processor seconds of `--steps report`; of this process alone with no workers."""
    start, cpu = time.perf_counter(), time.process_time()
    status = run_sample.main([
        f"--data_root={voc}", f"--out_dir={root / 'out'}", f"--sem_seg_out_dir={root / 'masks'}",
        "--steps=report", f"--num_workers={workers}", "--panels=0", "--device=cpu",
    ])  # fmt: skip
    assert status == 0
    return time.perf_counter() - start, time.process_time() - cpu


def first_page_bytes(folder: Path) -> int:
    """What a browser loads to show the first page."""
    facts = json.loads((folder / "report.json").read_text())["gallery"]
    paths = [folder / name for name in ("index.html", "report.css", "report.js")]
    paths.append(folder / "gallery" / "entries-0.js")
    for image in facts["images"][:A_PAGE]:
        paths.append(folder / "gallery" / "photo" / f"{image['id']}.jpg")
        paths.append(folder / "gallery" / facts["main"] / f"{image['id']}.png")
    return sum(path.stat().st_size for path in paths)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--counts", default="80,2000,10582", help="numbers of images")
    parser.add_argument("--photographs", type=Path, help="dataset with Sal/; else drawn images")
    parser.add_argument("--num_workers", type=int, default=0, help="default: 0")
    args = parser.parse_args(arguments)
    report = Report("The report", quick=args.quick)
    for count in (8,) if args.quick else map(int, args.counts.split(",")):
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary)
            if args.photographs is None:
                voc = draw_many(root, count)
            else:
                voc = link_photographs(args.photographs, root, count)
            wall, cpu = timed_report(voc, root, args.num_workers)
            _, again = timed_report(voc, root, args.num_workers)
            folder = root / "out" / "report"
            sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
            report.add(
                f"{count} images", seconds=wall, cpu_seconds=cpu,
                cpu_ms_an_image=1000 * cpu / count, cpu_seconds_nothing_to_do=again,
                MB=sum(sizes) / 1e6, files=len(sizes), first_page_MB=first_page_bytes(folder) / 1e6,
            )  # fmt: skip
    report.finish(args.json)


if __name__ == "__main__":
    main()
