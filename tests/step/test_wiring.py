"""Every setting of every step arrives: at the function, the optimiser or the network, and in the
record. Each is changed through the command line; spies stand where a step hands it over.

All steps work on files that somebody put there, so none of this depends on an earlier step.
"""

import json
from collections.abc import Callable, Mapping, Set
from dataclasses import astuple
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from misc.config import plain
from run_sample import make_parser
from step.common.scorefile import ScoreFile
from step.graph import (
    ImageStep,
    ShowingStep,
    Step,
    TrainingStep,
    all_steps,
    full_config_class,
    step_named,
)
from tests.helpers.given import BACKBONE, given_flags, start_of
from tests.helpers.spies import AllSeen, watch
from tests.helpers.tiny import arguments, run

Arguments = Mapping[str, Any]
TRAIN = "misc.training.train"
CRF = "misc.crf.DenseCrf.__init__"
SWEEP = {round(i / 100, 2) for i in range(1, 100)}


class Line(NamedTuple):
    """A setting of a step, typed as `text`, and what must then be received.

    Attributes:
        target: whom the step hands it to.
        received: from the target's arguments to what became of the setting, or an argument's name.
        expected: that, as it must be.
        value: the setting itself, where that is another.
    """

    field: str
    text: str
    target: str
    received: str | Callable[[Arguments], Any]
    expected: Any
    value: Any = None

    @property
    def setting(self) -> Any:
        """The setting's value."""
        return self.expected if self.value is None else self.value

    def look(self, seen: Arguments) -> Any:
        return seen[self.received] if isinstance(self.received, str) else self.received(seen)


class Trial(NamedTuple):
    """A start of one step with some settings changed.

    Attributes:
        step: the step.
        given: flags of what it reads.
        lines: the settings.
        more: further flags, of other steps or already looked at.
    """

    step: str
    given: tuple[str, ...]
    lines: tuple[Line, ...]
    more: tuple[str, ...] = ()


def learning(look: Callable[[Any], Any]) -> Callable[[Arguments], Any]:
    """What a training is about to begin with."""
    return lambda seen: look(seen["learning"])


def of_groups(name: str) -> Callable[[Arguments], Any]:
    return learning(lambda it: [group[name] for group in it.optimizer.param_groups])


def first_stage_that_learns(it: Any) -> int:
    stages = range(len(it.network.backbone.architecture.stages))
    return next(
        i
        for i in stages
        for module in it.network.backbone.stage(i)
        for parameter in module.parameters()
        if parameter.requires_grad
    )


def training(prefix: str, rates: list[Any]) -> tuple[Line, ...]:
    """What both trainings of SBE have; of eight images three make a batch."""
    return (
        Line("backbone", BACKBONE, TRAIN, learning(lambda it: it.network.backbone.name), BACKBONE),
        Line(f"{prefix}_crop_size", "48", TRAIN, learning(lambda it: it.dataset.crop_size), 48),
        Line(f"{prefix}_batch_size", "3", TRAIN, learning(lambda it: it.plan.batch_size), 3),
        Line(f"{prefix}_num_epoches", "4", TRAIN, learning(lambda it: it.plan.num_steps), 12, 4),
        Line(f"{prefix}_learning_rate", "0.03", TRAIN, of_groups("lr"), rates, 0.03),
        Line(f"{prefix}_weight_decay", "0.002", TRAIN, of_groups("weight_decay"),
             [0.002] * len(rates), 0.002),
        Line(f"{prefix}_momentum", "0.6", TRAIN, of_groups("momentum"), [0.6] * len(rates), 0.6),
        Line("seed", "11", TRAIN, learning(lambda it: (it.plan.seed, it.dataset.seed)), (11, 11),
             11),
        Line("seed", "11", "torch.manual_seed", "seed", 11),
    )  # fmt: skip


def crf_line(*numbers: float) -> Line:
    """The CRF, and with which numbers it is built."""
    return Line(
        "crf", "pydensecrf", CRF, lambda seen: (seen["backend"], astuple(seen["params"])),
        ("pydensecrf", numbers), "pydensecrf",
    )  # fmt: skip


def who(seen: Arguments) -> tuple[str, str]:
    """The backbone of a network, and which file it has its weights of."""
    return seen["self"].backbone.name, start_of(seen["self"])


TRIALS = (
    Trial("train_cam", ("backbone_weights",), (
        *training("cam", [0.03, pytest.approx(0.21)]),
        Line("cam_classifier_rate", "7", TRAIN, of_groups("lr"), [0.03, pytest.approx(0.21)], 7.0),
        Line("cam_resize_long", "50,70", TRAIN, learning(lambda it: it.dataset.resize_long),
             (50.0, 70.0)),
        Line("cam_train_from", "2", TRAIN, learning(first_stage_that_learns), 2),
        Line("backbone", BACKBONE, TRAIN, learning(lambda it: start_of(it.network)),
             "backbone.pth", BACKBONE),
    )),
    Trial("make_cam", ("cam_weights_name",), (
        Line("backbone", BACKBONE, "net.cam.CamClassifier.cams_of_pair", who,
             (BACKBONE, "cam.pth"), BACKBONE),
        Line("cam_scales", "1,0.25", "voc12.dataloader.ImagePyramids.__init__", "scales",
             (1.0, 0.25)),
        Line("cam_dtype", "float16", "step.make_cam.write_irn", "dtype", "float16"),
        Line("cam_high_res", "no", "step.make_cam.write_irn", "high_res", False),
    )),
    Trial("eval_cam", ("cam_out_dir",), (
        Line("cam_eval_thres", "0.437", "misc.metrics.ThresholdSweep.__init__",
             lambda seen: {*seen["thresholds"]} - SWEEP, {0.437}, 0.437),
        Line("eval_classes", "cat,dog", "step.common.threshold_scores.scores_to_json",
             "eval_classes", ("cat", "dog")),
    )),
    Trial("make_confident_regions", ("cam_out_dir",), (
        Line("conf_fg_thres", "0.41", "misc.boundary_label.make_confident_regions",
             "conf_fg_thres", 0.41),
        Line("conf_bg_thres", "0.03", "misc.boundary_label.make_confident_regions",
             "conf_bg_thres", 0.03),
        crf_line(3, 3, 50, 5, 10, 10),
    )),
    Trial("make_boundary_label", ("cam_vis_dir",), tuple(
        Line(field, text, "misc.boundary_label.make_boundary_label", field, float(text))
        for field, text in (("window_size", "7"), ("theta_scale", "0.35"), ("theta_diff", "0.15"),
                            ("salbound_thres", "0.65"), ("sal_bg_thres", "0.25"))
    )),
    Trial("make_boundary_label", ("cam_vis_dir",), (
        Line("sal_bg_thres", "0.25", "misc.boundary_label.make_boundary_label",
             lambda seen: bool(seen["saliency"].any()), True, 0.25),
    )),
    Trial("train_bes", ("cam_weights_name", "backbone_weights", "boundary_label_dir"), (
        *training("bes", [0.03]),
        Line("bes_backbone", "pretrained", TRAIN,
             learning(lambda it: start_of(it.network)), "backbone.pth", "pretrained"),
        Line("sal_bg_thres", "0.25", TRAIN, learning(lambda it: it.dataset.sal_bg_thres), 0.25),
    )),
    Trial("train_bes", ("cam_weights_name", "backbone_weights", "boundary_label_dir"), (
        Line("bes_backbone", "cam", TRAIN, learning(lambda it: start_of(it.network)), "cam.pth",
             "cam"),
    ), (f"--backbone={BACKBONE}",)),
    Trial("make_walk", ("cam_out_dir", "bes_weights_name"), (
        Line("backbone", BACKBONE, "net.boundary.BoundaryNetwork.boundary_of_pair", who,
             (BACKBONE, "bes.pth"), BACKBONE),
        Line("beta", "3.5", "misc.random_walk.random_walk_many", "beta", 3.5),
        Line("exp_times", "3", "misc.random_walk.random_walk_many", "exp_times", 3),
        Line("walk", "exact", "misc.random_walk.random_walk_many", "method", "exact"),
        Line("cam_dtype", "float16", "step.make_walk.write_irn", "dtype", "float16"),
    )),
    Trial("eval_walk", ("walk_out_dir",), (
        Line("sem_seg_bg_thres", "0.437", "misc.metrics.ThresholdSweep.__init__",
             lambda seen: {*seen["thresholds"]} - SWEEP, {0.437}, 0.437),
        Line("eval_classes", "cat,dog", "step.common.threshold_scores.scores_to_json",
             "eval_classes", ("cat", "dog")),
    )),
    Trial("make_sem_seg", ("walk_out_dir",), (
        Line("sem_seg_bg_thres", "0.33", "misc.pseudo_mask.scores_to_regions",
             "background_score", 0.33),
        crf_line(3, 3, 20, 5, 10, 10),
    )),
    Trial("make_sem_seg", ("cam_out_dir",), (
        Line("sem_seg_scores", "cam", "misc.pseudo_mask.regions_above",
             lambda seen: seen["scores"].unique().tolist(), [0.0, 1.0], "cam"),
        Line("sem_seg_bg_thres", "0.33", "misc.pseudo_mask.regions_above", "background_score",
             0.33),
    )),
    Trial("make_sem_seg", ("walk_out_dir",), (
        Line("sem_seg_rule", "saliency", "misc.wsss_bed.make_wsss_bed_mask",
             lambda seen: seen["saliency"] is not None, True, "saliency"),
        Line("sem_seg_act_thres", "0.15", "misc.wsss_bed.make_wsss_bed_mask", "act_thres", 0.15),
        Line("sem_seg_sal_thres", "0.45", "misc.wsss_bed.make_wsss_bed_mask", "sal_thres", 0.45),
        Line("sem_seg_ignore", "no", "misc.wsss_bed.make_wsss_bed_mask", "ignore", False),
    )),
    Trial("eval_sem_seg", ("sem_seg_out_dir",), (
        Line("eval_classes", "cat,dog", "step.common.scores.scores_to_json", "eval_classes",
             ("cat", "dog")),
    )),
    Trial("refine_masks", ("sem_seg_out_dir", "sam_root"), (
        Line("refine_region_share", "0.6", "misc.sam.Refinement.__init__", "region_share", 0.6),
        Line("refine_class_share", "0.8", "misc.sam.Refinement.__init__", "class_share", 0.8),
    )),
    Trial("eval_refined", ("refined_out_dir",), (
        Line("eval_classes", "cat,dog", "step.common.scores.scores_to_json", "eval_classes",
             ("cat", "dog")),
    )),
    Trial("benchmark", ("cam_out_dir",), (
        Line("benchmark_act_thres", "0.1,0.7", "step.benchmark.compare.compare",
             "act_thresholds", (0.1, 0.7)),
        Line("benchmark_sal_thres", "0.3", "step.benchmark.compare.compare",
             "sal_thresholds", (0.3,)),
    )),
    Trial("train_seg", (), (
        Line("seg_backbone", BACKBONE, TRAIN, learning(lambda it: it.network.backbone.name),
             BACKBONE),
        Line("seg_iters", "6", TRAIN, learning(lambda it: it.optimizer.max_step), 6),
        Line("seg_iters", "6", TRAIN, learning(lambda it: it.plan.num_steps), 18, 6),
        Line("seg_batch_size", "3", TRAIN, learning(lambda it: it.plan.batch_size), 3),
        Line("seg_accumulation", "3", TRAIN, learning(lambda it: it.accumulate), 3),
        Line("seg_crop", "40", TRAIN, learning(lambda it: it.dataset.crop_size), 40),
        Line("seg_rescale", "0.5,0.8", TRAIN, learning(lambda it: it.dataset.scales), (0.5, 0.8)),
        Line("seg_pyramid", "1,0.6", TRAIN, learning(lambda it: it.model.scales), (1.0, 0.6)),
        Line("seg_learning_rate", "0.02", TRAIN, of_groups("lr"),
             [0.02, pytest.approx(0.2), pytest.approx(0.4)], 0.02),
        Line("seg_weight_decay", "0.003", TRAIN, of_groups("weight_decay"), [0.003, 0.003, 0],
             0.003),
        Line("seg_momentum", "0.8", TRAIN, of_groups("momentum"), [0.8] * 3, 0.8),
        Line("seg_val_every", "5", TRAIN, learning(lambda it: it.update_every), 5),
        Line("seg_test_scales", "1,0.3", TRAIN,
             learning(lambda it: it.after_update.__self__.scales), (1.0, 0.3)),
        Line("seg_test_flip", "yes", TRAIN, learning(lambda it: it.after_update.__self__.flip),
             True),
        Line("seed", "11", TRAIN, learning(lambda it: (it.plan.seed, it.dataset.seed)), (11, 11),
             11),
        Line("seed", "11", "torch.manual_seed", "seed", 11),
    ), ("--seg_init=none", "--seg_label_dir=gt")),
    Trial("train_seg", (), (
        Line("seg_balanced", "yes", "net.segmentation_losses.segmentation_loss", "balanced", True),
    ), ("--seg_init=none", "--seg_label_dir=gt", f"--seg_backbone={BACKBONE}", "--seg_crop=32",
        "--seg_iters=1")),
    Trial("make_seg", ("seg_weights_name",), (
        Line("seg_backbone", BACKBONE, "net.deeplab_v2.DeepLabV2.forward", who,
             (BACKBONE, "seg.pth"), BACKBONE),
        Line("seg_test_scales", "1,0.3", "net.deeplab_v2.MultiScale.__init__", "scales",
             (1.0, 0.3)),
        Line("seg_test_flip", "yes", "net.deeplab_v2.MultiScale.forward",
             lambda seen: len(seen["x"]), 2, True),
        crf_line(1, 3, 67, 3, 4, 10),
    )),
    Trial("make_seg", ("seg_weights_name",), (
        Line("seg_crf", "no", "step.make_seg._make", "crf", None, False),
    ), (f"--seg_backbone={BACKBONE}", "--seg_test_scales=0.5")),
    Trial("make_submission", ("seg_weights_name",), (
        Line("voc_submission", "mine.zip", "step.make_submission.write_submission",
             lambda seen: str(seen["path"]), "mine.zip", Path("mine.zip")),
    ), (f"--seg_backbone={BACKBONE}", "--seg_test_scales=0.5")),
    Trial("eval_seg", ("seg_weights_name",), (
        Line("eval_classes", "cat,dog", "step.common.scores.scores_to_json", "eval_classes",
             ("cat", "dog")),
    ), (f"--seg_backbone={BACKBONE}", "--seg_test_scales=0.5")),
)  # fmt: skip

LIST, PHOTOGRAPHS, MASKS = "the list of images", "the photographs", "the exact masks"
WALK, REGIONS = "the walked scores", "the confident regions"


class Record(NamedTuple):
    """What the record of a result holds.

    Attributes:
        more: settings besides those that the step itself gets.
        inputs: what all of it was made from.
        parts: how many fingerprints an image has of its own.
        without: settings of the step that do not change what is in its files.
    """

    more: set[str]
    inputs: set[str]
    parts: int = 0
    without: Set[str] = frozenset()


CAM_FORM = {"cam_format", "cam_ids"}
OF_THRESHOLD = {"sem_seg_bg_thres"}
OF_SALIENCY = {"sem_seg_act_thres", "sem_seg_sal_thres", "sem_seg_ignore"}
NAMES = "the class names"
RECORDS = {
    "train_cam-backbone": Record(
        {"precision"}, {LIST, PHOTOGRAPHS, "the tags", NAMES, "the pretrained backbone"}
    ),
    "make_cam-backbone": Record(
        {"precision", *CAM_FORM}, {NAMES, "the classifier's weights"}, parts=2
    ),
    "make_confident_regions-conf_fg_thres": Record(CAM_FORM, {"the CAMs"}, parts=2),
    "make_boundary_label-window_size": Record({"saliency"}, {REGIONS}, parts=2),
    "train_bes-backbone": Record(
        {"precision", "saliency"},
        {LIST, PHOTOGRAPHS, "the pretrained backbone", "the boundary labels", "the saliency maps"},
    ),
    "train_bes-bes_backbone": Record(
        {"precision", "saliency"},
        {LIST, PHOTOGRAPHS, "the classifier's weights", "the boundary labels", "the saliency maps"},
    ),
    "make_walk-backbone": Record(
        {"precision", *CAM_FORM}, {"the CAMs", "the boundary network's weights"}, parts=2
    ),
    "make_sem_seg-sem_seg_bg_thres": Record(set(), {WALK}, parts=2, without=OF_SALIENCY),
    "make_sem_seg-sem_seg_scores": Record(CAM_FORM, {"the CAMs"}, parts=2, without=OF_SALIENCY),
    "make_sem_seg-sem_seg_rule": Record({"saliency"}, {WALK}, parts=3, without=OF_THRESHOLD),
    "refine_masks-refine_region_share": Record(set(), {"the pseudo masks"}, parts=2),
    "train_seg-seg_backbone": Record(
        {"precision"}, {LIST, PHOTOGRAPHS, NAMES, "the masks to learn from", "the initialisation"},
        without={"seg_val_every", "seg_test_scales", "seg_test_flip"},
    ),
    "make_seg-seg_backbone": Record(
        {"precision"}, {"the segmentation network's weights"}, parts=1, without={"seg_crf"}
    ),
    "eval_cam-cam_eval_thres": Record(CAM_FORM, {LIST, MASKS, NAMES, "the CAMs"}),
    "eval_walk-sem_seg_bg_thres": Record(set(), {LIST, MASKS, NAMES, WALK}),
    "eval_sem_seg-eval_classes": Record(set(), {LIST, MASKS, NAMES, "the pseudo masks"}),
    "eval_refined-eval_classes": Record(set(), {LIST, MASKS, NAMES, "the refined masks"}),
    "eval_seg-eval_classes": Record(set(), {LIST, MASKS, NAMES, "the masks last"}),
}  # fmt: skip


def name_of(trial: Trial) -> str:
    return f"{trial.step}-{trial.lines[0].field}"


TRIAL_OF = {name_of(trial): trial for trial in TRIALS}


def flags_of(trial: Trial, given: Path) -> list[str]:
    changed = [f"--{line.field}={line.text}" for line in trial.lines]
    return [*given_flags(given, *trial.given), *trial.more, *changed]


def asked_step(name: str) -> str:
    """What `--steps` calls it."""
    return step_named(name).runs_with or name


@pytest.mark.parametrize("name", TRIAL_OF)
def test_every_setting_arrives_and_is_recorded(
    name: str, tiny_dataset: Path, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, out_dir = TRIAL_OF[name], tmp_path / "out"
    flags = flags_of(trial, given)
    if trial.step == "eval_seg":  # its masks are made first, from weights that are given
        assert run(tiny_dataset, out_dir, *flags, "--steps=make_seg").status == 0
    seen = watch(monkeypatch, {line.target for line in trial.lines})
    try:
        done = run(tiny_dataset, out_dir, *flags, f"--steps={asked_step(trial.step)}")
    except AllSeen:
        pass
    else:
        pytest.fail(f"{done.status}: only {sorted(seen)} were called. {done.stderr}")
    for line in trial.lines:
        assert line.look(seen[line.target]) == line.expected, line.field
    step = step_named(trial.step)
    if name in RECORDS and isinstance(step, ImageStep | TrainingStep):
        check_record(trial, json.loads(record_path(step, out_dir).read_text()))


def record_path(step: Step, out_dir: Path) -> Path:
    """Where the record of what is being made lies."""
    assert step.writes is not None
    place = out_dir / step.writes.below_out_dir
    if isinstance(step, TrainingStep):
        return place.with_name(f"{place.name}.new") / "settings.json"
    return place / ("val/last" if step.name == "make_seg" else "") / "settings.json"


@pytest.mark.parametrize("name", [name for name in RECORDS if name.startswith("eval_")])
def test_a_score_records_what_it_was_made_from(
    name: str, tiny_dataset: Path, given: Path, tmp_path: Path
) -> None:
    trial, out_dir = TRIAL_OF[name], tmp_path / "out"
    steps = "make_seg,eval_seg" if trial.step == "eval_seg" else trial.step
    done = run(tiny_dataset, out_dir, *flags_of(trial, given), f"--steps={steps}")
    assert done.status == 0, done.stderr
    record = ScoreFile(out_dir / "scores.json").record(trial.step)
    assert record is not None
    check_record(trial, record.to_json())


def check_record(trial: Trial, record: dict[str, Any]) -> None:
    """A setting or an input that it lacks could change without making the result stale."""
    expected, settings = RECORDS[name_of(trial)], record["settings"]
    own = {*step_named(trial.step).own_settings()} - expected.without
    assert settings.keys() == own | expected.more
    for line in trial.lines:
        if line.field not in expected.without:
            assert settings[line.field] == plain(line.setting), line.field
    assert record["inputs"].keys() == expected.inputs
    parts = [text.split(",") for text in record.get("images", {}).values()]
    assert {len(each) for each in parts} == ({expected.parts} if expected.parts else set())
    assert all(all(each) for each in parts)


def test_every_step_with_a_record_is_looked_at() -> None:
    shown = {s.name for s in all_steps() if isinstance(s, ShowingStep)}
    kept = {s.name for s in all_steps() if not getattr(s, "is_always_due", False)} - shown
    assert {TRIAL_OF[name].step for name in RECORDS} == kept - {"make_saliency"}


@pytest.mark.parametrize("name", [step.name for step in all_steps() if step.own_settings()])
def test_the_table_has_every_setting_of_a_step(name: str) -> None:
    """A setting that is dropped from a step's `make`, or joins it, changes the table too."""
    listed = {line.field for trial in TRIALS if trial.step == name for line in trial.lines}
    assert listed == {*step_named(name).own_settings()}


def test_the_table_changes_every_setting(tiny_dataset: Path) -> None:
    """From what it is without its flag; of the two words of a setting, one is the default."""
    usual = vars(make_parser().parse_args(arguments(tiny_dataset, Path("out"))))
    config = full_config_class()()
    tried: dict[tuple[str, str], set[Any]] = {}
    for trial in TRIALS:
        for line in trial.lines:
            tried.setdefault((trial.step, line.field), set()).add(line.setting)
    for (step, name), values in tried.items():
        assert values - {usual.get(name, getattr(config, name))}, (step, name)
