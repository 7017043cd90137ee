"""A card says how masks came about: what scores mean nothing without.

The card of this project's own masks is read from the records of what made them. What is not known
is "not stated": nothing is guessed.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from misc.config import plain
from misc.errors import UserError
from misc.images import open_regular
from misc.untrusted import printable
from misc.workspace import Identity, Record
from step.artefacts import PRETRAINED_BACKBONE, SALIENCY_MAPS
from step.common.runfile import path_of, read_run
from step.common.scorefile import ScoreFile
from step.graph import Weights, all_artefacts
from step.seg.inputs import INIT_WORDS, MASKS_TO_LEARN, START
from step.seg.notes import Notes

logger = logging.getLogger(__name__)

CARD_NAME = "card.json"
NOT_STATED = "not stated"
MAX_BYTES = 1 << 20
FIELDS = {
    "made_by": "who made the masks: method, paper, code",
    "tags": "image tags: none, or which",
    "saliency": "saliency maps: none, or which model, and what trained it",
    "clip": "CLIP or another model of images and texts: none, or which",
    "sam": "Segment Anything: none, or which, and how",
    "other": "any other supervision, such as pixel masks or boxes: none, or which",
    "initialisation": "what the networks' weights started from",
    "seeds": "random seeds, and which of several runs this is",
    "thresholds": "thresholds, and other settings that were tuned",
    "thresholds_chosen": "how these were chosen, and on which images",
}
# Besides results of this project, what says which supervision there was.
DECIDING = (PRETRAINED_BACKBONE.name, START.name, MASKS_TO_LEARN.name)
THRESHOLDS = ("_thres", "_share", "theta_scale", "theta_diff", "beta", "sem_seg_rule")  # end them

Card = dict[str, str]


def template() -> str:
    """A card to fill in, as JSON."""
    return json.dumps(dict.fromkeys(FIELDS, ""), indent=2)


def read_card(folder: Path, given: Mapping[str, str]) -> Card:
    """The card of the masks in a folder, with every field.

    Args:
        folder: of masks. `card.json` in it comes before what this project's records tell.
        given: fields that come before both.

    Raises:
        UserError: if `card.json` is no card, or a field is unknown.
    """
    path = folder / CARD_NAME
    stated = _card_of_records(folder)
    for name, values in ((str(path), _card_in(path)), ("--card", given)):
        if unknown := [field for field in values if field not in FIELDS]:
            raise UserError(
                f"{name}: there is no field {printable(unknown[0])}. "
                f"The fields are {', '.join(FIELDS)}."
            )
        stated |= values
    return {name: stated.get(name) or NOT_STATED for name in FIELDS}


def parse_fields(texts: Sequence[str]) -> Card:
    """Fields from texts such as `seeds=0`.

    Raises:
        UserError: if a text is none.
    """
    pairs = [text.partition("=") for text in texts]
    for name, equals, value in pairs:
        if not equals or not value:
            raise UserError(f"--card {name}: write field=value, such as seeds=0.")
    return {name: value for name, _, value in pairs}


def _card_in(path: Path) -> Card:
    if not path.exists():
        return {}
    try:
        with open_regular(path) as file:
            content = json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not read as JSON: {error}. Correct or remove it.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is no card: write an object, as --card_template prints it.")
    return {name: _in_words(value) for name, value in content.items()}


def _in_words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(each)}" for name, each in value.items())
    if isinstance(value, float):
        return f"{value:g}"
    # A stranger's text goes to the terminal.
    text = "" if value is None else str(value)
    return "".join(character if character.isprintable() else " " for character in text)


@dataclass
class _Origin:
    """What made masks, as far as records tell.

    Attributes:
        records: of the run, by their paths.
        settings: of every step on the way, the last step's first.
        foreign: names of what was put there.
        is_whole: every record on the way was found, and nothing came from elsewhere.
        starts: what backbones started from.
        labels: what a segmentation network learnt from.
        makes_saliency: saliency maps were made on the way.
    """

    records: Mapping[Path, Record]
    settings: list[Mapping[str, Any]] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    is_whole: bool = True
    starts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    makes_saliency: bool = False

    def follow(self, record: Record, path: Path) -> None:
        """Go back from the record at `path` to those of its inputs, and note what they say."""
        self.settings.append(record.settings)
        notes = path.with_name(path.name.removesuffix(".json") + ".notes.json")
        if notes.exists():
            said = Notes.read(notes)
            self.starts.append(f"DeepLab-v2: {said.initialisation}")
            self.labels.append(said.labels)
        # A dataset has saliency maps of its own.
        ours = {artefact.name for artefact in all_artefacts()} - {SALIENCY_MAPS.name}
        for name, identity in record.inputs.items():
            is_word = identity.content in INIT_WORDS
            if name == PRETRAINED_BACKBONE.name:
                self.starts.append(f"backbone: {identity.content if is_word else 'a file'}")
            found = self._made_by(identity)
            if found is not None:
                place, earlier = found
                self.makes_saliency |= name == SALIENCY_MAPS.name
                if earlier.settings not in self.settings:
                    self.follow(earlier, place)
            elif name in ours or name in DECIDING:
                self.is_whole &= is_word
            if found is None and identity.settings is not None:
                self.settings.append(identity.settings)
            if identity.settings is None and name in ours:
                self.foreign.append(name)

    def _made_by(self, identity: Identity) -> tuple[Path, Record] | None:
        """The record of an input; None without one, or if it is unclear which it is."""
        if identity.settings is None:
            return None
        same = {p: r for p, r in self.records.items() if r.settings == identity.settings}
        exact = {p: r for p, r in same.items() if r.identity().recipe == identity.recipe}
        found = list((exact or same).items())
        return found[0] if len(found) == 1 else None

    def values(self, name: str) -> list[Any]:
        """The different values that a setting has on the way."""
        found = [settings[name] for settings in self.settings if name in settings]
        return [value for k, value in enumerate(found) if value not in found[:k]]


def _card_of_records(folder: Path) -> Card:
    """What this project's records tell of masks that it made; nothing of other masks."""
    try:
        record = Record.read(folder / "settings.json")
    except UserError as error:  # it may be somebody else's file of that name
        logger.warning("What made the masks is not known: %s", error.message)
        return {}
    if record is None:
        return {}
    origin = _Origin(dict(_records_near(folder)))
    origin.follow(record, folder / "settings.json")
    foreign = ", ".join(origin.foreign)
    card = {"made_by": "this project" + (f", from {foreign} put there by hand" if foreign else "")}
    if origin.values("cam_learning_rate"):
        card["tags"] = "image tags, to train the classifier"
    if uses := origin.values("saliency"):
        has_maps = uses != ["none"]
        model = _supervision_near(folder) if origin.makes_saliency else NOT_STATED
        card["saliency"] = f"maps (their model: {model})" if has_maps else "none"
    if origin.values("refine_region_share"):
        card["sam"] = "regions refine the masks (refine_masks)"
    elif origin.is_whole:
        card["sam"] = "none"
    if origin.is_whole:
        card |= {"clip": "none", "other": "none"}
    if origin.labels:
        card["other"] = f"DeepLab-v2 learnt from: {', '.join(origin.labels)}"
    card["initialisation"] = ", ".join(dict.fromkeys(origin.starts))
    card["seeds"] = _in_words(sorted(origin.values("seed")))
    names = {name for settings in origin.settings for name in settings}
    card["thresholds"] = ", ".join(
        f"{name} {_in_words(plain(value))}"
        for name in sorted(names)
        if name.endswith(THRESHOLDS)
        for value in origin.values(name)
    )
    return card


def _run_near(folder: Path) -> Path | None:
    """The output folder of the run that made a folder of masks."""
    parents = folder.absolute().parents
    return next((each for each in parents if path_of(each).exists()), None)


def _supervision_near(folder: Path) -> str:
    """What the network learnt from that made the saliency maps of a run, as the run says."""
    out_dir = _run_near(folder)
    said = {} if out_dir is None else ScoreFile(out_dir / "scores.json").step("make_saliency")
    return _in_words(said.get("supervision") or NOT_STATED)


def _records_near(folder: Path) -> Iterator[tuple[Path, Record]]:
    """The records of the run that made a folder of masks, by their paths."""
    out_dir = _run_near(folder)
    if out_dir is None:
        return
    settings = read_run(out_dir).get("settings", {})
    for artefact in all_artefacts():
        place = Path(settings.get(artefact.flag) or out_dir / artefact.below_out_dir)
        if isinstance(artefact, Weights):  # with several seeds there are several
            paths = sorted(place.parent.glob(f"{place.stem}*{place.suffix}.json"))
        else:
            paths = [place / "settings.json"]
        for path in paths:
            record = Record.read(path)
            if record is not None:
                yield path, record
