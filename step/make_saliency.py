"""Saliency maps of every image by a salient object network, for datasets that come without."""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from misc.config import INPUT, NO_EFFECT, Config, plain, positive_numbers, setting
from misc.images import image_size, read_image
from misc.runtime import WorkerPool, is_accelerator, read_ahead
from misc.saliency import write_saliency
from misc.workspace import Identity, ImageFolder, atomic_write, digest
from step.artefacts import MADE_SALIENCY, PHOTOGRAPHS, TAGS
from step.common.checks import problems_of
from step.graph import ImageStep, Source, Work
from voc12.files import VocDataset

if TYPE_CHECKING:
    import torch

    from misc.saliency_network import ModelFile, Recipe, SaliencyNetwork
    from step.run import Run

logger = logging.getLogger(__name__)

UNKNOWN = "unknown: name it with --saliency_supervision TEXT"


def _three(values: Sequence[float]) -> str:
    return "" if len(values) in (0, 3) else "must be three numbers, of red, green and blue"


def _three_positive(values: Sequence[float]) -> str:
    return _three(values) or (positive_numbers(values) if values else "")


@dataclass(frozen=True)
class Settings:
    """Which network, and how it wants its photographs."""

    heading: ClassVar[str] = "saliency maps (make_saliency)"

    saliency_model: str = setting(
        "u2netp",
        "network of --saliency make: u2netp, silueta, u2net or isnet (downloaded once), or an ONNX "
        "file",
        decides=INPUT,
        in_short_help=True,
    )
    saliency_supervision: str = setting(
        "",
        "what the network is and what it was trained with, for scores.json (default: known of the "
        "four)",
        decides=NO_EFFECT,
    )
    saliency_model_size: int = setting(
        0,
        "side of the square that photographs are resized to; 0: as the four were published, or as "
        "the file says, or 320",
        at_least=0,
        decides=INPUT,
        at_most=10_000,
    )
    saliency_model_mean: tuple[float, ...] = setting(
        (),
        "mean of red, green and blue, which is subtracted (default: as published; ImageNet's for a "
        "file)",
        rule=_three,
        decides=INPUT,
        at_least=-1000,
        at_most=1000,
    )
    saliency_model_std: tuple[float, ...] = setting(
        (), "their deviation, which is divided by (default: likewise)", rule=_three_positive,
        decides=INPUT, at_least=1e-6, at_most=1000,
    )  # fmt: skip
    saliency_model_white: str = setting(
        "auto",
        "what photographs are divided by first: 255, or max, their largest value; auto: as "
        "published; 255 for a file",
        ("auto", "255", "max"),
        decides=INPUT,
    )


class Chosen(NamedTuple):
    """The network that the settings choose, and how it is going to see photographs."""

    model: "ModelFile"
    recipe: "Recipe"

    @property
    def supervision(self) -> str:
        """What it learnt from, if that is known of it."""
        return "" if self.model.published is None else self.model.published.supervision


def chosen(run: "Run") -> Chosen:
    """The network of this run; nothing is downloaded.

    Raises:
        UserError: if the settings name none.
    """
    from misc.saliency_network import find_model

    text = run.setting("saliency_model")
    key = "saliency model", text, run.fingerprints.of(Path(text))
    model = run.once(key, lambda: find_model(text))
    changes: dict[str, Any] = {
        field: value
        for field in ("size", "mean", "std")
        if (value := run.setting(f"saliency_model_{field}"))
    }
    if (white := run.setting("saliency_model_white")) != "auto":
        changes["by_maximum"] = white == "max"
    return Chosen(model, dataclasses.replace(model.recipe, **changes))


def load_network(run: "Run") -> "SaliencyNetwork":
    """The network of this run, which is downloaded if it is missing.

    Raises:
        UserError: if it cannot be had or run.
    """
    import torch

    from misc.saliency_network import SaliencyNetwork, fetch

    model, recipe = chosen(run)
    fetch(model)
    threads = torch.get_num_threads()
    return SaliencyNetwork(model.path, recipe, device=run.runtime.device, threads=threads)


class SaliencyModel(Source):
    """The network: a published one, which is downloaded if it is missing, or a file."""

    name = "the saliency model"

    def shared(self, run: "Run") -> Identity:
        """Content and recipe, which are known of a file that is still to be downloaded, too."""
        model, recipe = chosen(run)
        content = digest([model.key, dataclasses.astuple(recipe)])
        inputs = [f.name for f in dataclasses.fields(Settings) if f.metadata["decides"] == INPUT]
        settings = {name: plain(run.setting(name)) for name in inputs}
        return Identity(content, content, settings)

    def problems(self, run: "Run", ids: Sequence[str]) -> list[str]:
        """Whether it can be had, and what it says of a gray picture."""

        def try_it() -> list[str]:
            model, _ = chosen(run)
            if run.is_only_planned and not model.path.exists():
                return []  # nothing is downloaded
            network = load_network(run)
            network.predict(np.full((*network.size, 3), 128, np.uint8))
            return []

        return run.once(("saliency network", *chosen(run)), lambda: problems_of(try_it))


class TaggedOrNot(Source):
    """Whether images have a tag at all; which they have decides nothing here."""

    name = "the tags"

    def own(self, run: "Run", ids: Sequence[str]) -> Mapping[str, str]:
        return {i: "tagged" if len(run.class_ids(i)) else "untagged" for i in ids}

    def problems(self, run: "Run", ids: Sequence[str]) -> list[str]:
        return TAGS.problems(run, ids)


class MakeSaliency(ImageStep):
    """What the network says, as it says it; black where no tag says that there is an object.

    Networks find an object in every picture, also where there is none. And a map that is stretched
    to 0..1, as programs that remove backgrounds do, would show one.
    """

    help = "saliency maps of every image by a network"
    reads = (PHOTOGRAPHS, TaggedOrNot(), SaliencyModel())
    writes = MADE_SALIENCY
    flags = Settings
    is_default = False
    in_demo = False
    comes_with = "--saliency make"

    def runs_unasked(self, config: Config) -> bool:
        return config.saliency == "make"

    def images(self, run: "Run") -> list[str]:
        return run.cam_ids

    def place(self, run: "Run") -> Path:
        return self.writes.path(run)

    def notes(self, run: "Run") -> dict[str, Any]:
        """The network's file and what it learnt from, which a paper has to name."""
        from misc.saliency_network import sha256_of

        path, supervision = chosen(run).model.path, run.setting("saliency_supervision")
        named = {
            "model": path.name,
            "supervision": supervision or chosen(run).supervision or UNKNOWN,
        }
        return named | ({"sha256": sha256_of(path)} if path.exists() else {})

    def describe(self, result: Mapping[str, Any]) -> str:
        return f"{result['model']}; supervision: {result['supervision']}"

    def make(self, work: Work) -> Iterator[object]:
        """Write the maps of `work.ids`."""
        run = work.run
        is_tagged = {image_id: len(run.class_ids(image_id)) > 0 for image_id in work.ids}
        for image_id in (i for i in work.ids if not is_tagged[i]):
            size = image_size(run.dataset.image_path(image_id))
            _write(Prediction(image_id, size, np.zeros((1, 1), np.float32)), folder=work.files)
            yield image_id
        tagged = [i for i in work.ids if is_tagged[i]]
        if not tagged:
            return
        network = load_network(run)
        logger.info("make_saliency: %s", _on_device(network, run.runtime.device))
        with WorkerPool(run.runtime.num_workers) as pool:
            yield from pool.map(partial(_write, folder=work.files), _predict(run, network, tagged))


def _on_device(network: "SaliencyNetwork", device: "torch.device") -> str:
    """Where the network runs, and how to have it run on the GPU if it does not."""
    hint = "pip install onnxruntime-gpu, instead of onnxruntime, has it run on the GPU"
    misses = is_accelerator(device) and network.device == "CPU"
    return f"{network.path} runs on the {network.device}" + (f" ({hint})" if misses else "")


class Prediction(NamedTuple):
    """What the network says of an image: its size (H,W), and the map (h,w) as it came out."""

    image_id: str
    size: tuple[int, int]
    saliency: NDArray[np.float32]


def _predict(run: "Run", network: "SaliencyNetwork", ids: list[str]) -> Iterator[Prediction]:
    """Predictions for `ids`; worker processes read and prepare the photographs."""
    inputs = _Inputs(run.dataset, ids, network.recipe, network.size)
    samples = read_ahead(run.runtime, inputs, batch_size=None)
    while portion := list(islice(samples, network.batch)):
        maps = network.maps(np.stack([np.asarray(each["x"]) for each in portion]))
        for each, saliency in zip(portion, maps, strict=True):
            yield Prediction(each["image_id"], tuple(each["size"]), saliency)


@dataclass(frozen=True)
class _Inputs:
    """What a DataLoader reads: photographs, as the network wants them."""

    dataset: VocDataset
    ids: list[str]
    recipe: "Recipe"
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        from misc.saliency_network import prepare

        image = read_image(self.dataset.image_path(self.ids[index]))
        x = prepare(image, self.recipe, self.size)
        return {"image_id": self.ids[index], "size": image.shape[:2], "x": x}


def _write(made: Prediction, *, folder: ImageFolder) -> None:
    from misc.saliency_network import enlarge

    with atomic_write(folder.file(made.image_id)) as file:
        write_saliency(file, enlarge(made.saliency, made.size))
