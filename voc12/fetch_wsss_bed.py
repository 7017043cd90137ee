"""Fetch WSSS-BED's published sets of activations and saliency maps.

python -m voc12.fetch_wsss_bed VOC2012_CAM VOC2012_PoolNet_DUTS --to DIR
python -m voc12.fetch_wsss_bed --list
"""

from misc.signals import leave_when_stopped

if __name__ == "__main__":
    leave_when_stopped()  # before the imports, which take a while

import argparse
import difflib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from misc.command_line import exit_status, run_as_program
from misc.download import download
from misc.errors import UserError
from misc.untrusted import unpack_pngs
from misc.workspace import content_digest, write_json
from voc12.published_sets import Asset, assets

logger = logging.getLogger(__name__)

BASE_URL = "https://github.com/clovaai/WSSS-BED"
SOURCE_NAME = "source.json"


def find_assets(names: Sequence[str]) -> list[Asset]:
    """The published sets of these names.

    Raises:
        UserError: naming the unknown ones and what is close to them.
    """
    known = {asset.name: asset for asset in assets()}
    problems = []
    for name in names:
        if name not in known:
            close = ", ".join(difflib.get_close_matches(name, known)) or "none"
            problems.append(f"Unknown set {name} (similar: {close}). --list prints all.")
    if problems:
        raise UserError("\n".join(problems))
    return [known[name] for name in names]


def fetch_set(asset: Asset, folder: Path, base_url: str, attempts: int) -> None:
    """Fetch one set into `<folder>/<name>/`, unless it is there.

    `source.json` in the set's folder says where it came from.

    Raises:
        UserError: if the set cannot be had, or the archive is damaged or hostile.
    """
    target = folder / asset.name
    if target.exists():
        logger.info("%s is already there", target)
        return
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f".{asset.name}.zip"  # not the name of one that the user fetched
    url = f"{base_url.rstrip('/')}/{asset.path}"
    try:
        download(url, archive, attempts)
        source = {"url": url, "bytes": archive.stat().st_size, "sha256": content_digest(archive)}
        count = unpack_pngs(archive, target)
    finally:
        archive.unlink(missing_ok=True)
    write_json(target / SOURCE_NAME, source | {"files": count})
    logger.info("%s: %d files", target, count)


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help="sets, as --list prints them")
    parser.add_argument("--to", type=Path, metavar="DIR", help="folder for the sets' folders")
    parser.add_argument("--list", action="store_true", help="print kind and name of all sets")
    parser.add_argument(
        "--base_url", default=BASE_URL, help=f"address of the releases (default: {BASE_URL})"
    )
    parser.add_argument(
        "--attempts", type=int, default=5, help="how many times to try a download (default: 5)"
    )
    args = parser.parse_args(arguments)
    if args.list:
        sys.stdout.writelines(f"{asset.kind} {asset.name}\n" for asset in assets())
        return 0
    if not args.names or args.to is None:
        parser.error("pass one or more sets and --to DIR, or --list")

    def work() -> None:
        failed = []
        for asset in find_assets(args.names):
            try:
                fetch_set(asset, args.to, args.base_url, max(args.attempts, 1))
            except UserError as error:
                failed.append(error.message)
        if failed:
            raise UserError("\n".join(failed))

    return exit_status(work, "--to")


if __name__ == "__main__":
    run_as_program(main)
