"""SBE from photographs, image tags and saliency maps to pseudo masks and their scores.

python run_sample.py --data_root DIR       every step
python run_sample.py --demo                every step on a drawn dataset
"""

import argparse
import importlib
import logging
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from misc.config import Config, add_settings, config_from_args
from misc.errors import MENDABLE, UserError, with_remedy
from misc.log import setup_logging
from misc.peers import RUN_LOST, PeerLost, end_process, watched_peers
from misc.presets import apply_preset
from misc.runtime import ReportedByMain, make_runtime
from misc.settings import parse_bool, parse_names
from misc.workers import prepare_workers
from step.demo import (
    BES_ENDING,
    DEMO_DATASET,
    DEMO_SETTINGS,
    GT_ENDING,
    STEPS_WITH_LABELS,
    STEPS_WITH_SALIENCY,
    comparison_table,
    with_exact_masks,
    without_saliency,
)
from step.report import ScoreFile

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
    # Not before a run asks for them: they load torch, and --help shall not wait for it.
    from step import make_panels
    from step.context import Context
    from step.runner import check_inputs, results_table, run_step

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


def run_requested(config: Config, steps: Sequence[Step]) -> None:
    """Run `steps`; with `--benchmark_sbe`, SBE on every pair of sets just before the benchmark.

    Raises:
        UserError: for the user's mistakes; those about the sets come before any training on them.
    """
    config.require_root()
    prepare_workers(config.num_workers)
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
    from step.runner import check_inputs

    modules = [importlib.import_module(step.module) for step in steps]
    for config in configs:
        runtime = make_runtime(config.device, config.precision, config.num_workers)
        context = Context(config, runtime, tuple(step.name for step in steps))
        runtime.on_main(partial(check_inputs, context, modules))


def run_demo(args: argparse.Namespace) -> None:
    """Draw a dataset and run every step on it; compare with BES and with full supervision."""
    if "voc12_root" in args:
        raise UserError("--demo draws its own dataset: leave out --data_root, or --demo.")
    for name, value in DEMO_SETTINGS.items():
        vars(args).setdefault(name, value)
    out_dir: Path = args.out_dir
    dataset = args.voc12_root = out_dir / "dataset"
    steps = requested_steps(args)
    sbe = config_from_args(args)
    prepare_workers(sbe.num_workers)
    from voc12.demo import draw_dataset  # loads torch

    runtime = make_runtime(sbe.device, sbe.precision, sbe.num_workers)
    runtime.on_main(lambda: draw_dataset(dataset, **DEMO_DATASET, seed=sbe.seed))
    bes, supervised = without_saliency(sbe), with_exact_masks(sbe)
    with_saliency = [step for step in steps if step.name in STEPS_WITH_SALIENCY]
    with_labels = [step for step in steps if step.name in STEPS_WITH_LABELS]
    run_steps(sbe, steps, with_table=False)
    run_steps(bes, with_saliency, BES_ENDING, with_table=False)
    scores = run_steps(supervised, with_labels, GT_ENDING, with_table=False)
    if runtime.is_main:
        sys.stdout.write(f"\n{comparison_table(scores)}\n")


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
    end_process(main())
