import ast
import dataclasses
import inspect
import json
import re
import textwrap
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from misc.config import BACKBONES, INPUT, NO_EFFECT, RESULT, config_from
from misc.config import Config as SharedConfig
from misc.config.config import check_config, config_class
from misc.errors import UserError
from misc.seeds import MOST_SEED
from net.backbone import ARCHITECTURES
from run_sample import main, make_parser
from step.graph import Step, all_artefacts, all_steps, full_config_class
from step.make_cam import Settings

Config: Any = full_config_class()
DEFAULT_PATHS = {each.flag: each.below_out_dir for each in all_artefacts()}

REFERENCE = {
    "backbone": "resnet50",
    "cam_crop_size": 512,
    "cam_resize_long": (320, 512),
    "cam_batch_size": 16,
    "cam_num_epoches": 5,
    "cam_learning_rate": 0.1,
    "cam_weight_decay": 1e-4,
    "cam_momentum": 1e-4,
    "cam_scales": (1.0, 0.5, 1.5, 2.0),
    "cam_eval_thres": 0.21,
    "conf_fg_thres": 0.30,
    "conf_bg_thres": 0.07,
    "window_size": 13,
    "theta_scale": 0.30,
    "theta_diff": 0.10,
    "salbound_thres": 0.5,
    "sal_bg_thres": 0,
    "bes_crop_size": 512,
    "bes_batch_size": 16,
    "bes_num_epoches": 3,
    "bes_learning_rate": 0.1,
    "bes_weight_decay": 1e-4,
    "bes_momentum": 1e-4,
    "beta": 5,
    "exp_times": 8,
    "sem_seg_bg_thres": 0.21,
    "saliency": "maps",
    "seed": 5,
}


@pytest.mark.parametrize("name", REFERENCE)
def test_defaults_are_the_references(name: str) -> None:
    assert getattr(Config(), name) == REFERENCE[name]


def test_the_classifier_learns_at_the_references_rate() -> None:
    assert Config().cam_learning_rate * Config().cam_classifier_rate == 1.0


def test_the_defaults_are_allowed() -> None:
    assert config_from({}, Config) == Config()


def test_every_backbone_can_be_chosen() -> None:
    assert tuple(ARCHITECTURES) == BACKBONES


def test_the_help_names_every_flag_its_meaning_and_its_default() -> None:
    shown = re.sub(r"\s+", " ", make_parser().format_help().replace("-\n", "-"))
    for field in dataclasses.fields(Config):
        assert f"--{field.name} " in shown
        assert field.metadata["help"].split()[0] in shown
    for default in ("(default: 0.21)", "(default: 1,0.5,1.5,2)", "(default: all CPUs)"):
        assert default in shown


BAD: dict[str, Any] = {
    "cam_eval_thres": 1.1,
    "conf_fg_thres": -0.1,
    "sal_bg_thres": float("nan"),
    "sem_seg_bg_thres": 21.0,
    "theta_scale": 30.0,
    "cam_batch_size": 0,
    "bes_crop_size": 0,
    "checkpoint_every": -1,
    "num_workers": -1,
    "seed": -1,
    "cam_learning_rate": float("nan"),
    "bes_momentum": -0.9,
    "beta": 0.0,
    "exp_times": 21,
    "window_size": 12,
    "cam_scales": (),
    "cam_resize_long": (512.0, 320.0),
    "cam_train_from": 6,
}


@pytest.mark.parametrize("name", BAD)
def test_a_setting_that_cannot_work_is_named(name: str) -> None:
    with pytest.raises(UserError, match=f"--{name} "):
        check_config(Config(**{name: BAD[name]}))


def test_all_settings_that_cannot_work_are_named_at_once() -> None:
    with pytest.raises(UserError) as caught:
        check_config(Config(**BAD))
    named = set(re.findall(r"^  --(\w+)", str(caught.value), re.MULTILINE))
    assert named >= BAD.keys()


@pytest.mark.parametrize(
    "changes",
    [
        {"cam_scales": (1.0, 0.0)},
        {"cam_resize_long": (320.0,)},
        {"cam_resize_long": (0.0, 320.0)},
        {"conf_bg_thres": 0.31},
        {"window_size": -1},
        {"exp_times": -1},
    ],
)
def test_other_values_that_cannot_work(changes: dict[str, Any]) -> None:
    (name,) = changes
    with pytest.raises(UserError, match=f"--{name} "):
        check_config(Config(**changes))


KINDS = get_type_hints(Config)
NUMBERS = {
    field.name: field.metadata["range"]
    for field in dataclasses.fields(Config)
    if KINDS[field.name] in (int, float, tuple[int, ...], tuple[float, ...])
}


def values_outside(name: str) -> list[str]:
    """What a number's flag must refuse: what is not finite, and what is out of its range."""
    bounds, is_whole = NUMBERS[name], KINDS[name] in (int, tuple[int, ...])
    least = bounds.above if bounds.at_least is None else bounds.at_least
    most = bounds.below if bounds.at_most is None else bounds.at_most
    if name == "seed" or name.endswith("_seeds"):
        most = MOST_SEED  # by a rule of their own
    step = 1 if is_whole else 1e-9
    texts = ["nan", "inf", "-inf", "1e400", "9" * 400, "number"]
    texts += [f"{least - step!r}", f"{most + step * max(most, 1)!r}"]
    texts += [f"{bound!r}" for bound in (bounds.above, bounds.below) if bound is not None]
    count = 3 if name.startswith("saliency_model_") and not is_whole else 2
    is_list = KINDS[name] not in (int, float)
    return [",".join([text] * count) for text in texts] if is_list else texts


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_two_bounds_and_its_flag_refuses_what_is_outside(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in values_outside(name):
        try:
            status = main([f"--{name}={text}"])
        except SystemExit as ending:  # argparse's own
            status = ending.code  # type: ignore[assignment]
        said = capsys.readouterr().err
        assert status == 2
        assert re.search(rf"--{name}\b", said), (text, said)
        assert "No dataset" not in said


def test_there_are_as_many_numbers_as_that() -> None:
    assert len(NUMBERS) == 54
    assert {"beta", "cam_momentum", "seed", "seg_seeds", "cam_scales"} <= NUMBERS.keys()


def test_a_range_of_a_thousand_million_numbers_is_not_made(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--benchmark_act_thres=0:1:1000000000"])
    assert "--benchmark_act_thres: '0:1:1000000000' is not a list of" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes",
    [
        {"num_workers": 0},
        {"seed": 0},
        {"seed": 2**63 - 1},
        {"cam_momentum": 0.999},
        {"exp_times": 0},
        {"window_size": 1},
        {"conf_bg_thres": 0.3},
    ],
)
def test_extreme_values_that_can_work(changes: dict[str, Any]) -> None:
    check_config(Config(**changes))


@pytest.mark.parametrize("name", DEFAULT_PATHS)
def test_results_go_below_out_dir_unless_they_are_given_a_place(name: str) -> None:
    changes: dict[str, Any] = {name: Path("here")}
    assert Config(out_dir=Path("there")).path(name) == Path("there") / DEFAULT_PATHS[name]
    assert Config(out_dir=Path("there"), **changes).path(name) == Path("here")


def test_default_places_differ() -> None:
    assert len(set(DEFAULT_PATHS.values())) == len(DEFAULT_PATHS)


def test_saliency_lies_in_the_dataset_unless_it_is_given_a_place(tmp_path: Path) -> None:
    config = Config(voc12_root=tmp_path)
    assert config.saliency_root() == tmp_path / "Sal"
    assert dataclasses.replace(config, sal_root=Path("maps")).saliency_root() == Path("maps")
    assert Config(saliency="none").saliency_root() is None
    made = dataclasses.replace(config, saliency="make", out_dir=Path("out"))
    assert made.saliency_root() == Path("out/saliency")
    elsewhere: Any = dataclasses.replace(made, saliency_out_dir=Path("maps"))
    assert elsewhere.saliency_root() == Path("maps")


def test_records_do_not_say_who_made_the_saliency_maps() -> None:
    assert Config(saliency="make").recorded("saliency") == "maps"
    assert Config(saliency="none").recorded("saliency") == "none"
    assert Config(eval_classes=("cat",)).recorded("eval_classes") == ["cat"]


def test_the_dataset_must_be_named_and_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pass --data_root DIR, or --demo"):
        Config().require_root()
    with pytest.raises(UserError, match="none is not a folder"):
        Config(voc12_root=tmp_path / "none").require_root()
    assert Config(voc12_root=tmp_path).require_root() == tmp_path


def test_settings_survive_json(tmp_path: Path) -> None:
    config = Config(voc12_root=tmp_path, eval_classes=("cat",))
    content = config.to_dict()
    assert json.loads(json.dumps(content)) == content
    assert content.keys() == {field.name for field in dataclasses.fields(Config)}


def test_a_setting_is_declared_once() -> None:
    with pytest.raises(ValueError, match="cam_scales is declared by"):
        config_class([Settings, Settings])


def test_every_setting_is_of_a_step_or_declared_to_change_no_result() -> None:
    """A setting that a step forgets would silently reuse what was made with another value."""
    decides = {field.name: field.metadata["decides"] for field in dataclasses.fields(Config)}
    assert set(decides.values()) == {RESULT, INPUT, NO_EFFECT}
    of_steps = {name for step in all_steps() for name in step.own_settings()}
    artefacts = [*all_artefacts(), *(source for step in all_steps() for source in step.reads)]
    of_steps |= {name for each in artefacts for name in each.settings}
    for name, what in decides.items():
        if what == RESULT:
            assert name in of_steps, f"no step's result depends on --{name}"
    assert of_steps <= decides.keys()


@pytest.mark.parametrize("step", all_steps(), ids=lambda step: step.name)
def test_every_setting_that_a_step_gets_is_used(step: Step) -> None:
    """A flag that is parsed, recorded and then ignored cannot be written."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(step.make))).body
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    assert set(step.own_settings()) <= names


def test_shared_settings_are_those_of_every_run() -> None:
    assert {f.name for f in dataclasses.fields(SharedConfig)} < {
        f.name for f in dataclasses.fields(Config)
    }
