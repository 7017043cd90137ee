"""SBE from photographs, image tags and saliency maps to pseudo masks and their scores.

python run_sample.py --data_root DIR       every step
python run_sample.py --demo                every step on a drawn dataset
"""

import argparse
import dataclasses
import importlib
import logging
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from misc.config import Config, add_settings, config_from_args
from misc.errors import MENDABLE, UserError, with_remedy
from misc.log import setup_logging
from misc.peers import RUN_LOST, PeerLost, watched_peers
from misc.presets import apply_preset
from misc.runtime import ReportedByMain, make_runtime
from misc.settings import parse_bool, parse_names
from misc.workspace import digest, remove_partial_files
from step.report import ScoreFile, describe, percent, spread_text, table

if TYPE_CHECKING:
    from step.context import Context

logger = logging.getLogger(__name__)

USER_MISTAKE = 2
INTERRUPTED = 130


class Step(NamedTuple):
    """A step: its name, what it does, and whether it runs unasked; its module is loaded then."""

    name: str
    help: str
    is_default: bool = True
    in_demo: bool = True

    @property
    def flag(self) -> str:
        """The flag that switches the step on and off."""
        return f"{self.name}_pass"

    @property
    def module(self) -> str:
        """Name of the module with `preflight` and `run`."""
        return f"step.{self.name}"


STEPS = (
    Step("train_cam", "train the tag classifier"),
    Step("make_cam", "class activation maps of every image"),
    Step("eval_cam", "score the CAMs over all thresholds"),
    Step("make_boundary_label", "boundary labels from CAMs and saliency"),
    Step("train_bes", "train the boundary network"),
    Step("make_sem_seg", "pseudo masks by random walk, before and after the CRF"),
    Step("eval_sem_seg", "score the pseudo masks"),
    Step("make_wsss_bed_masks", "pseudo masks by WSSS-BED's rule", is_default=False, in_demo=False),
    Step("benchmark", "compare CAM and saliency sets", is_default=False, in_demo=False),
    Step("train_seg", "train DeepLab-v2 on the pseudo masks", is_default=False),
    Step("make_seg", "segment images with it, before and after the CRF", is_default=False),
    Step("eval_seg", "score its last and its best checkpoint", is_default=False),
)


def make_parser() -> argparse.ArgumentParser:
    """All flags: the steps, the settings, and the demo."""
    parser = argparse.ArgumentParser(
        description="SBE: image tags and saliency maps to pseudo masks.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--demo",
        action="store_true",
        help="draw a small dataset under --out_dir and run everything on it, without a download",
    )
    steps = parser.add_argument_group("steps (what is done and current is skipped)")
    for step in STEPS:
        unasked = "yes" if step.is_default else "no, in the demo yes" if step.in_demo else "no"
        steps.add_argument(
            f"--{step.flag}", type=parse_bool, nargs="?", const=True, default=None,
            metavar="yes|no", help=f"{step.help} (default: {unasked})",
        )  # fmt: skip
    steps.add_argument(
        "--steps", type=parse_names, metavar="A,B", help="run just these, such as make_cam,eval_cam"
    )
    add_settings(parser)
    return parser


def requested_steps(args: argparse.Namespace) -> list[Step]:
    """The steps that the flags ask for, in their order.

    Raises:
        UserError: if `--steps` names an unknown step.
    """
    if args.steps is None:
        return [step for step in STEPS if is_requested(step, args)]
    known = [step.name for step in STEPS]
    unknown = [name for name in args.steps if name not in known]
    if unknown or not args.steps:
        problem = f"unknown step {', '.join(unknown)}" if unknown else "names no step"
        raise UserError(f"--steps: {problem}. There are {', '.join(known)}.")
    return [step for step in STEPS if step.name in args.steps]


def is_requested(step: Step, args: argparse.Namespace) -> bool:
    """What the step's flag says, else whether it runs unasked."""
    flag = getattr(args, step.flag)
    if flag is not None:
        return flag
    return step.in_demo if args.demo else step.is_default


def run_steps(
    config: Config, steps: Sequence[Step], ending: str = "", *, with_table: bool = True
) -> ScoreFile:
    """Check the inputs of all `steps`, run them in order, and keep what they say.

    Args:
        config: the settings.
        steps: the steps, in their order.
        ending: added to the steps' names in the scores.
        with_table: print what each step said.

    Returns:
        the scores, as they stand in `<out_dir>/scores.json`.

    Raises:
        UserError: for the user's mistakes; all problems of the inputs are in one message.
    """
    from step import make_panels
    from step.context import Context

    config.require_root()
    runtime = make_runtime(config.device, config.precision, config.num_workers)
    log_file = Path(f"{config.path('log_name')}.log")
    setup_logging(log_file if runtime.is_main else None, quiet=not runtime.is_main)
    context = Context(config, runtime, tuple(step.name for step in steps))
    modules = {step.name: importlib.import_module(step.module) for step in steps}
    runtime.on_main(lambda: check_inputs(context, modules.values()))
    scores = ScoreFile(config.out_dir / "scores.json")
    for name, module in modules.items():
        run_step(context, f"{name}{ending}", module, scores)
    if runtime.is_main:
        if with_table:
            names = [f"{name}{ending}" for name in modules]
            sys.stdout.write(f"\n{results_table(scores, names)}\n")
        try:
            make_panels.run(context)
        except UserError as error:  # the run is done and reported: a picture is no reason to fail
            logger.warning("Not all contact sheets (--panels) are there: %s", error.message)
    return scores


def check_inputs(context: "Context", modules: Iterable[ModuleType]) -> None:
    """Look at the inputs of all steps before any of them runs.

    Raises:
        UserError: every problem of every step, in one message.
    """
    from step.disk_use import planned, space_problems
    from step.preflight import report, setting_problems

    problems = setting_problems(context)
    for module in modules:
        try:
            problems += module.preflight(context)
        except UserError as error:
            problems.append(error.message)
    if not problems:
        problems += space_problems(
            use for step in context.requested for use in planned(context, step)
        )
    if problems:
        raise UserError(report(problems))
    remove_partial_files(context.config.out_dir)


def run_step(context: "Context", name: str, module: ModuleType, scores: ScoreFile) -> None:
    """Run one step unless what it makes is there and current; time it and keep what it says."""
    from step.disk_use import announce, planned

    scores_only = hasattr(module, "inputs_digest")
    made_from = ""
    if scores_only:
        if not context.runtime.is_main:
            return
        settings = context.config.subset(module.SETTINGS)
        made_from = digest([settings, module.inputs_digest(context)])
        if scores.step(name).get("made_from") == made_from and not context.config.overwrite:
            logger.info("%s: scores are current", name)
            return
    if context.runtime.is_main:
        announce(name, planned(context, module.__name__.removeprefix("step.")))
    start = time.perf_counter()
    result = module.run(context)
    seconds = time.perf_counter() - start
    if result is None:
        logger.info("%s: nothing to do", name)
        return
    if scores_only:
        result["made_from"] = made_from
    # A row's own: those beside all rows are of the last run, this row may be of an earlier one.
    names = (*getattr(module, "SETTINGS", ()), *getattr(module, "USUAL", ()))
    result |= {"settings": context.config.subset(names), "seed": context.config.seed}
    result |= {"seconds": seconds, "images_per_second": result["images"] / seconds}
    scores.put(name, result)
    if context.runtime.is_main:
        scores.write(context.config)
    logger.info("%s: %s (%.1f s)", name, describe(result) or "done", seconds)


def results_table(scores: ScoreFile, names: Iterable[str]) -> str:
    """What each step said, one row a step."""
    rows = [
        [
            name,
            str(scores.step(name).get("images", "-")),
            f"{scores.step(name).get('seconds', 0):.1f}",
            describe(scores.step(name)),
        ]
        for name in names
    ]
    return table(["step", "images", "seconds", "result"], rows)


def run_requested(config: Config, steps: Sequence[Step]) -> None:
    """Run `steps`; with `--benchmark_sbe`, SBE on every pair of sets just before the benchmark.

    Raises:
        UserError: for the user's mistakes; those about the sets come before any training on them.
    """
    names = [step.name for step in steps]
    if not config.benchmark_sbe or "benchmark" not in names:
        run_steps(config, steps)
        return
    from step.benchmark_sets import sbe_configs

    place = names.index("benchmark")
    first, last = steps[:place], steps[place:]
    of_sbe = [step for step in STEPS if step.name in STEPS_WITH_SALIENCY]
    runs = sbe_configs(config)
    if first:
        run_steps(config, first)
    check_runs(runs, of_sbe)
    check_runs([config], last)
    for number, run in enumerate(runs, 1):
        logger.info("SBE %d of %d: %s", number, len(runs), run.out_dir)
        run_steps(run, of_sbe)
    run_steps(config, last)


def check_runs(configs: Iterable[Config], steps: Sequence[Step]) -> None:
    """Look at the inputs of all runs before the first of them starts.

    Raises:
        UserError: the problems of the first run that has any.
    """
    from step.context import Context

    modules = [importlib.import_module(step.module) for step in steps]
    for config in configs:
        config.require_root()
        runtime = make_runtime(config.device, config.precision, config.num_workers)
        context = Context(config, runtime, tuple(step.name for step in steps))
        runtime.on_main(partial(check_inputs, context, modules))


DEMO_SETTINGS: dict[str, Any] = {
    "out_dir": Path("demo_result"),
    "backbone": "resnet18",
    "backbone_weights": "none",
    "bes_backbone": "cam",
    "cam_crop_size": 128,
    "cam_resize_long": (128.0, 192.0),
    "cam_batch_size": 16,
    "cam_num_epoches": 20,
    "cam_momentum": 0.9,
    "cam_learning_rate": 0.05,
    "cam_classifier_rate": 1.0,
    "cam_scales": (1.0, 0.5, 1.5),
    "bes_crop_size": 160,
    "bes_batch_size": 8,
    "bes_num_epoches": 20,
    "bes_learning_rate": 0.02,
    "sem_seg_bg_thres": 0.35,
    "bes_momentum": 0.9,
    "seg_backbone": "resnet18",
    "seg_init": "cam",
    "seg_crop": 96,
    "seg_batch_size": 8,
    "seg_accumulation": 1,
    "seg_iters": 40,
    "seg_val_every": 0,
    "seg_learning_rate": 4e-3,
    "seg_pyramid": (1.0, 0.5),
    "seg_test_scales": (1.0, 0.5),
    "seed": 0,
    "panels": 6,
}
DEMO_DATASET = {"num_train": 80, "num_val": 20, "size": 192, "empty_every": 5}
BES_ENDING, GT_ENDING = "_bes", "_gt"
STEPS_WITH_SALIENCY = ("make_boundary_label", "train_bes", "make_sem_seg", "eval_sem_seg")
STEPS_WITH_LABELS = ("train_seg", "make_seg", "eval_seg")


def run_demo(args: argparse.Namespace) -> None:
    """Draw a dataset and run every step on it; compare with BES and with full supervision."""
    from voc12.demo import draw_dataset

    if "voc12_root" in args:
        raise UserError("--demo draws its own dataset: leave out --data_root, or --demo.")
    for name, value in DEMO_SETTINGS.items():
        vars(args).setdefault(name, value)
    out_dir: Path = args.out_dir
    dataset = args.voc12_root = out_dir / "dataset"
    steps = requested_steps(args)
    sbe = config_from_args(args)
    runtime = make_runtime(sbe.device, sbe.precision, sbe.num_workers)
    runtime.on_main(lambda: draw_dataset(dataset, **DEMO_DATASET, seed=sbe.seed))
    bes = dataclasses.replace(
        sbe,
        saliency="none",
        boundary_label_dir=out_dir / "bes" / "boundary_label",
        bes_weights_name=out_dir / "bes" / "weights.pth",
        sem_seg_out_dir=out_dir / "bes" / "sem_seg",
        panels=0,
    )
    supervised = dataclasses.replace(
        sbe,
        seg_label_dir="gt",
        seg_weights_name=out_dir / "gt" / "seg.pth",
        seg_out_dir=out_dir / "gt" / "seg",
        panels=0,
    )
    with_saliency = [step for step in steps if step.name in STEPS_WITH_SALIENCY]
    with_labels = [step for step in steps if step.name in STEPS_WITH_LABELS]
    run_steps(sbe, steps, with_table=False)
    run_steps(bes, with_saliency, BES_ENDING, with_table=False)
    scores = run_steps(supervised, with_labels, GT_ENDING, with_table=False)
    if runtime.is_main:
        sys.stdout.write(f"\n{comparison_table(scores)}\n")


def comparison_table(scores: ScoreFile) -> str:
    """CAM, BES, SBE and what DeepLab-v2 learnt side by side: mIoU in percent, seconds a step."""
    cam = scores.step("eval_cam")
    rows = []
    if cam:
        name = f"CAM (best threshold, {cam['best_threshold']:g})"
        seconds = _seconds(scores, ("train_cam", "make_cam", "eval_cam"))
        rows.append([name, percent(cam["best"]["miou"]), "-", seconds])
    for name, ending in (("BES (no saliency)", BES_ENDING), ("SBE", "")):
        result = scores.step(f"eval_sem_seg{ending}")
        if result:
            seconds = _seconds(scores, STEPS_WITH_SALIENCY, ending)
            rows.append([name, percent(result["miou"]), percent(result["miou_crf"]), seconds])
    for masks, ending in (("SBE's masks", ""), ("exact masks", GT_ENDING)):
        last = scores.step(f"eval_seg{ending}").get("last")
        if last:
            mious = [spread_text(last.get(key, {})) for key in ("miou", "miou_crf")]
            seconds = _seconds(scores, STEPS_WITH_LABELS, ending)
            rows.append([f"DeepLab-v2 on val, from {masks}", *mious, seconds])
    return table(["masks of", "mIoU", "mIoU after CRF", "seconds a step"], rows)


def _seconds(scores: ScoreFile, names: Iterable[str], ending: str = "") -> str:
    """What each of the steps took, where it ran."""
    took = {name: scores.step(f"{name}{ending}").get("seconds") for name in names}
    return ", ".join(f"{name} {seconds:.0f}" for name, seconds in took.items() if seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; the exit status (2: the user's mistake)."""
    args = make_parser().parse_args(arguments)
    setup_logging(None)
    try:
        with watched_peers():
            apply_preset(args, Config)
            if args.demo:
                run_demo(args)
            else:
                run_requested(config_from_args(args), requested_steps(args))
    except PeerLost as error:
        logger.error("%s", error)
        return RUN_LOST
    except ReportedByMain:
        return USER_MISTAKE
    except UserError as error:
        logger.error("%s", error.message)
        return USER_MISTAKE
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        logger.error("%s", with_remedy(error))
        return USER_MISTAKE
    except KeyboardInterrupt:
        again = ", without --overwrite," if getattr(args, "overwrite", False) else ""
        logger.warning("Stopped. Run the same command again%s to go on.", again)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
