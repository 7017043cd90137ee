"""Saliency networks on disk: the published ones, their recipes, and how they get here."""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from misc.download import download
from misc.errors import UserError
from misc.transforms import IMAGENET_MEAN, IMAGENET_STD

logger = logging.getLogger(__name__)

BASE_URL = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"
ATTEMPTS = 3
_READ_AT_ONCE = 1 << 22

Rgb = tuple[float, ...]


@dataclass(frozen=True)
class Recipe:
    """How a network wants its photographs.

    Attributes:
        size: side of the square that they are resized to; 0: as the file says, or 320.
        mean: of each channel, which is subtracted.
        std: of each channel, which is divided by after that.
        by_maximum: before that they are divided by their largest value, not by 255.
    """

    size: int = 0
    mean: Rgb = IMAGENET_MEAN
    std: Rgb = IMAGENET_STD
    by_maximum: bool = False


@dataclass(frozen=True)
class Published:
    """A network that others published.

    Attributes:
        name: what `--saliency_model` calls it.
        file_name: of the ONNX file, here and where it was published.
        md5: of that file.
        recipe: how it wants its photographs.
        supervision: what it is, and what it learnt from.
    """

    name: str
    file_name: str
    md5: str
    recipe: Recipe
    supervision: str

    @property
    def url(self) -> str:
        """Where it is published."""
        return f"{BASE_URL}/{self.file_name}"

    @property
    def place(self) -> Path:
        """Where it lies once it is downloaded: beside torchvision's weights."""
        import torch

        return Path(torch.hub.get_dir()) / "checkpoints" / self.file_name


_U2NET = Recipe(size=320, by_maximum=True)
_ISNET = Recipe(size=1024, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0), by_maximum=True)
_DUTS = "trained with pixel masks of DUTS-TR"

# Recipes and sums: those of rembg 2.0.86, which publishes the files. It resizes by Lanczos; here it
# is bilinear, by which these networks were trained. It gives md5 sums only.
PUBLISHED = {
    each.name: each
    for each in (
        Published(
            "u2netp", "u2netp.onnx", "8e83ca70e441ab06c318d82300c84806", _U2NET,
            f"U-2-Net (small), {_DUTS}",
        ),
        Published(
            "silueta", "silueta.onnx", "55e59e0d8062d2f5d013f4725ee84782", _U2NET,
            f"U-2-Net (silueta, reduced), {_DUTS}",
        ),
        Published(
            "u2net", "u2net.onnx", "60024c5c889badc19c04ad937298a77b", _U2NET,
            f"U-2-Net, {_DUTS}",
        ),
        Published(
            "isnet", "isnet-general-use.onnx", "fc16ebd8b0c10d971d3513d564d01e29", _ISNET,
            "IS-Net (general use), trained with pixel masks, those of DIS5K among them",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class ModelFile:
    """The file of a network.

    Attributes:
        path: where it lies, or will when it is downloaded.
        key: fingerprint of its content.
        published: the published network that it is; None for any other.
    """

    path: Path
    key: str
    published: Published | None = None

    @property
    def recipe(self) -> Recipe:
        """The published recipe; for any other file, ImageNet's."""
        return Recipe() if self.published is None else self.published.recipe


def find_model(text: str) -> ModelFile:
    """The network that is meant by a published name, or by the path of an ONNX file.

    A file with the content of a published one is that, whatever it is called.

    Raises:
        UserError: if it is neither.
    """
    if text in PUBLISHED:
        published = PUBLISHED[text]
        return ModelFile(published.place, published.md5, published)
    path = Path(text)
    if not path.is_file():
        raise UserError(
            f"--saliency_model {text}: no such file. Pass {', '.join(PUBLISHED)}, or an ONNX file."
        )
    md5 = _md5_of(path)
    known = next((each for each in PUBLISHED.values() if each.md5 == md5), None)
    return ModelFile(path, md5 if known else sha256_of(path), known)


def fetch(model: ModelFile) -> None:
    """See to it that a network is there: one that was chosen by its name is downloaded if not.

    Raises:
        UserError: if it cannot be downloaded, or is not what was published.
    """
    path, published = model.path, model.published
    if published is None or path != published.place:
        return
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f"{path.name}.lock")):  # one process of a machine downloads
            if not path.exists():
                _download(published, path)
    elif (md5 := _md5_of(path)) != published.md5:
        raise UserError(
            f"{path} is not the published {path.name}: its md5 is {md5}, not {published.md5}. "
            "Delete it to have it downloaded again, or name it by --saliency_model FILE if you "
            "mean this one."
        )


def _download(published: Published, path: Path) -> None:
    arrived = path.with_name(f"{path.name}.unchecked")
    try:
        download(published.url, arrived, ATTEMPTS)
        if (md5 := _md5_of(arrived)) != published.md5:
            raise UserError(f"{published.url} has changed: its md5 is {md5}, not {published.md5}.")
        os.replace(arrived, path)
    except UserError as error:
        raise UserError(
            f"{error} --saliency_model {published.name} needs this file. Get it on a machine with "
            f"internet access and put it into {path.parent}, or name it, or another network, by "
            "--saliency_model FILE.onnx."
        ) from None
    finally:
        arrived.unlink(missing_ok=True)
    logger.info("%s: sha256 %s", path, sha256_of(path))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    return _sum_of(path, hashlib.sha256())


def _md5_of(path: Path) -> str:
    return _sum_of(path, hashlib.md5(usedforsecurity=False))


def _sum_of(path: Path, total: "hashlib._Hash") -> str:
    with open(path, "rb") as file:
        while block := file.read(_READ_AT_ONCE):
            total.update(block)
    return total.hexdigest()
