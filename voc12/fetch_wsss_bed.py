"""Fetch WSSS-BED's published sets of activations and saliency maps.

python -m voc12.fetch_wsss_bed VOC2012_CAM VOC2012_PoolNet_DUTS --to DIR
python -m voc12.fetch_wsss_bed --list
"""

import argparse
import difflib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from misc.download import fetch
from misc.errors import UserError
from misc.log import setup_logging
from misc.unpack import BadArchive, unpack_pngs
from misc.workspace import content_digest, write_json
from voc12.wsss_bed import Asset, assets

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
            close = ", ".join(difflib.get_close_matches(name, known)) or "none close"
            problems.append(f"There is no set {name} ({close}). --list prints all.")
    if problems:
        raise UserError("\n".join(problems))
    return [known[name] for name in names]


def fetch_set(asset: Asset, folder: Path, base_url: str, *, retries: int) -> None:
    """Fetch one set into `<folder>/<name>/`, unless it is there.

    The archive is fetched into `folder`, resumed if it broke off, and deleted once unpacked, or if
    it is damaged. `source.json` in the set's folder says where it came from.

    Raises:
        UserError: if the set cannot be had, or the archive is damaged or hostile.
    """
    target = folder / asset.name
    if target.exists():
        logger.info("%s is there", target)
        return
    archive = folder / f"{asset.name}.zip"
    url = f"{base_url.rstrip('/')}/{asset.path}"
    if not archive.exists():
        fetch(url, archive, retries=retries)
    source = {"url": url, "bytes": archive.stat().st_size, "sha256": content_digest(archive)}
    try:
        count = unpack_pngs(archive, target)
    except BadArchive:
        archive.unlink()
        raise
    write_json(target / SOURCE_NAME, source | {"files": count})
    archive.unlink()
    logger.info("%s: %d files", target, count)


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help="sets, as --list prints them")
    parser.add_argument("--to", type=Path, metavar="DIR", help="folder for the sets' folders")
    parser.add_argument("--list", action="store_true", help="print kind and name of all sets")
    parser.add_argument(
        "--base_url", default=BASE_URL, help=f"address of the releases (default: {BASE_URL})"
    )
    parser.add_argument("--retries", type=int, default=5, help="attempts in a row (default: 5)")
    args = parser.parse_args(arguments)
    setup_logging(None)
    if args.list:
        sys.stdout.writelines(f"{asset.kind} {asset.name}\n" for asset in assets())
        return 0
    if not args.names or args.to is None:
        parser.error("name one set or more and --to DIR, or pass --list")
    try:
        wanted = find_assets(args.names)
    except UserError as error:
        logger.error("%s", error.message)
        return 2
    failed = 0
    for asset in wanted:
        try:
            fetch_set(asset, args.to, args.base_url, retries=args.retries)
        except UserError as error:
            logger.error("%s", error.message)
            failed += 1
    return 2 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
