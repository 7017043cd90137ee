"""SBE from photographs, image tags and saliency maps to pseudo masks and their scores.

python run_sample.py --data_root DIR       every step
python run_sample.py --demo                every step on a drawn dataset
"""

from misc.signals import leave_when_stopped

if __name__ == "__main__":
    leave_when_stopped()  # before the imports, which take a while

import argparse
import difflib
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from misc.command_line import USER_MISTAKE, run_as_program, stopped
from misc.config import (
    OVERWRITE_ALL,
    OVERWRITE_NOTHING,
    OVERWRITE_STALE,
    SHARED_SETTINGS,
    Config,
    add_flags,
    add_reference_flags,
    apply_made_saliency,
    apply_preset,
    apply_reference_flags,
    config_from,
    parse_bool,
    parse_names,
)
from misc.errors import UserError, failure_in_words
from misc.log import setup_logging
from misc.runtime import (
    RUN_LOST,
    PeerLost,
    ReportedByMain,
    Runtime,
    make_runtime,
    prepare_workers,
    watched_peers,
)
from misc.signals import stoppable
from misc.workspace import RunLocks
from step.artefacts import has_exact_masks
from step.common.runfile import command_line, path_of
from step.common.scorefile import ScoreFile
from step.graph import Node, Step, all_artefacts, all_steps, full_config_class, step_settings
from step.run import BOARD_FOLDER, NOTES, PANELS_FOLDER, REPORT_FOLDER, Run
from voc12.files import require_photographs

logger = logging.getLogger(__name__)

NodesOf = Callable[[Run], list[Node]]


class Parser(argparse.ArgumentParser):
    """A parser with short errors that suggest what was meant."""

    raises = False  # a UserError instead of ending the process

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where to find help."""
        if self.raises:
            raise UserError(message)
        self.exit(USER_MISTAKE, f"{message}\nSee --help, or --help all for every flag.\n")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse all arguments; an unknown one is an error that names similar flags."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            name = next((each for each in unknown if each.startswith("-")), unknown[0])
            name = name.partition("=")[0]
            close = difflib.get_close_matches(name, self._option_string_actions, n=3)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            self.error(f"There is no flag {name}.{hint}")
        return parsed


class _ShowHelp(argparse.Action):
    """`--help` shows the most used flags, `--help all` all of them."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        _namespace: argparse.Namespace,
        values: object,
        _option: str | None = None,
    ) -> None:
        make_parser(is_short=values != "all").print_help()
        parser.exit()


def make_parser(*, is_short: bool = False) -> Parser:
    """A parser of all flags; with `is_short` its help shows the most used ones."""
    parser = Parser(
        description="SBE: image tags and saliency maps to pseudo masks.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
        usage="python run_sample.py --data_root DIR [flags]",
    )
    what = parser.add_argument_group("what to run")
    what.add_argument(
        "-h", "--help", nargs="?", choices=("all",), metavar="all", action=_ShowHelp,
        help="show the most used flags (with `all`, every flag) and exit",
    )  # fmt: skip
    what.add_argument(
        "--demo",
        action="store_true",
        help="draw a small dataset under --out_dir and run everything on it, without a download",
    )
    what.add_argument(
        "--plan", action="store_true", help="show what would be done and why, and exit"
    )
    what.add_argument(
        "--steps", type=parse_names, metavar="A,B", help="run only these, such as make_cam,eval_cam"
    )
    what.add_argument(
        "--from", dest="from_step", metavar="STEP",
        help="run this step and those that use its results",
    )  # fmt: skip
    what.add_argument(
        "--overwrite", nargs="?", const=OVERWRITE_STALE, default=argparse.SUPPRESS,
        type=_overwrite, metavar="all",
        help="redo what is stale in these steps and what depends on it; all: redo all of them",
    )  # fmt: skip
    steps = parser.add_argument_group("steps (current results are kept)")
    for step in all_steps():
        if not step.runs_with:
            unasked = "yes" if step.is_default else "no; yes in the demo" if step.in_demo else "no"
            unasked += f"; yes with {step.comes_with}" if step.comes_with else ""
            short = [f"--{step.name}"] * step.ends_every_run
            steps.add_argument(
                f"--{step.name}_pass", *short, type=parse_bool, nargs="?", const=True, default=None,
                dest=f"{step.name}_pass", metavar="yes|no",
                help=f"{step.help} (default: {unasked})",
            )  # fmt: skip
    for settings in (*SHARED_SETTINGS, *step_settings()):
        add_flags(parser, settings, is_short=is_short)
    add_reference_flags(parser, is_short=is_short)
    if is_short:
        parser.epilog = "--help all shows every flag."
    return parser


def _overwrite(text: str) -> str:
    if text in (OVERWRITE_STALE, OVERWRITE_ALL):
        return text
    try:
        return OVERWRITE_STALE if parse_bool(text) else OVERWRITE_NOTHING
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not `all`; --steps or --from names steps"
        ) from None


def requested_steps(
    config: Config,
    names: Sequence[str] | None = None,
    passes: Mapping[str, bool] | None = None,
    *,
    is_demo: bool = False,
) -> list[Step]:
    """The requested steps in order, with those that run with them.

    Args:
        config: the settings, which switch some steps on.
        names: only these.
        passes: step -> whether it is switched on or off.
        is_demo: the demo's defaults apply.

    Raises:
        UserError: if a step is unknown.
    """
    known = {step.name: step for step in all_steps() if not step.runs_with}
    switched = passes or {}
    if names is None:
        chosen = {
            name
            for name, step in known.items()
            if switched.get(name, step.in_demo if is_demo else step.runs_unasked(config))
        }
    else:
        named = {step_of(name, "--steps").name for name in names}
        chosen = {name for name in named if switched.get(name, True)}
        if named and not chosen:
            flags = " ".join(f"--{name}_pass no" for name in known if name in named)
            raise UserError(
                f"--steps {','.join(names)} asks for what {flags} switches off: no step is left to "
                "run. Leave out one of the two."
            )
        if not named:
            raise UserError(f"--steps names no step. The steps are {', '.join(known)}.")
    return [step for step in all_steps() if (step.runs_with or step.name) in chosen]


def closing_steps(passes: Mapping[str, bool]) -> list[Step]:
    """The steps at the end of every run, unless they are switched off."""
    return [step for step in all_steps() if step.ends_every_run and passes.get(step.name, True)]


def step_of(name: str, flag: str) -> Step:
    """The step of that name.

    Raises:
        UserError: if there is none, with what there is; `flag` named it.
    """
    known = {step.name: step for step in all_steps() if not step.runs_with}
    if name not in known:
        close = difflib.get_close_matches(name, known, n=2)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UserError(f"{flag}: unknown step {name}.{hint} The steps are {', '.join(known)}.")
    return known[name]


def with_followers(run: Run, first: Step, steps: Iterable[Step]) -> list[Step]:
    """Those of `steps` that are `first`, or that read, directly or not, what it makes."""
    followers: list[Step] = []
    made: set[Path | None] = set()
    for step in all_steps():
        nodes = step.nodes(run)
        read = {source.path(node.run) for node in nodes for source in node.step.sources(node.run)}
        if first.name in (step.name, step.runs_with) or read & made:
            followers.append(step)
            made |= {node.step.writes.path(node.run) for node in nodes if node.step.writes}
    return [step for step in followers if step in steps]


@dataclass(frozen=True)
class RunResult:
    """The results of a run.

    Attributes:
        scores: the content of scores.json, an object for each step.
        paths: flag of a result, such as `sem_seg_out_dir`, -> where it lies; `scores`, `run`,
            `log`, `report`, `panels`.
    """

    scores: dict[str, Any]
    paths: dict[str, Path]


def run(
    *,
    steps: str | Sequence[str] | None = None,
    from_step: str | None = None,
    plan: bool = False,
    demo: bool = False,
    **settings: Any,
) -> RunResult:
    """Run from Python, with the names and defaults of the flags.

    run(data_root="mydata", steps="make_sem_seg,eval_sem_seg", sem_seg_bg_thres=0.3)

    Args:
        steps: only these; by default those that are on by default.
        from_step: this one and those that use its results.
        plan: show the plan and make nothing.
        demo: draw a small dataset under `out_dir` and run on that.
        settings: values of flags, as strings or Python values; `NAME_pass=False` switches
            a step off.

    Returns:
        scores and paths.

    Raises:
        UserError: for the user's mistakes, before work begins wherever that is possible.
    """
    words = []
    for name, value in settings.items():
        if value is None:  # the default
            continue
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        words.append(f"--{name}={text}")
    if steps is not None:
        words.append(f"--steps={steps if isinstance(steps, str) else ','.join(steps)}")
    if from_step is not None:
        words.append(f"--from={from_step}")
    words += ["--plan"] * plan + ["--demo"] * demo
    parser = make_parser()
    parser.raises = True
    config = run_arguments(parser.parse_args(words), words)
    paths = {each.flag: config.path(each.flag) for each in all_artefacts()}
    paths |= {"scores": ScoreFile.of(config).path, "run": path_of(config.out_dir)}
    paths |= {"log": config.log_path, "report": config.out_dir / REPORT_FOLDER / "index.html"}
    paths |= {"panels": config.out_dir / PANELS_FOLDER}
    return RunResult(ScoreFile.of(config).content, paths)


def run_arguments(args: argparse.Namespace, words: Sequence[str]) -> Config:
    """Run what parsed flags ask for, and return the configuration.

    Args:
        args: the parsed flags.
        words: the flags as they were typed.

    Raises:
        UserError: for the user's mistakes.
    """
    apply_reference_flags(args)
    apply_preset(args, full_config_class())
    is_demo = args.demo
    if is_demo:
        from step.common.demo import DEMO_SETTINGS

        if "voc12_root" in args:
            raise UserError("--demo draws its own dataset: leave out --data_root, or --demo.")
        if getattr(args, "saliency", "") == "make":
            raise UserError("--demo draws saliency maps too: leave out --saliency make, or --demo.")
        for name, value in DEMO_SETTINGS.items():
            vars(args).setdefault(name, value)
        args.voc12_root = args.out_dir / "dataset"
    apply_made_saliency(args)
    config = config_from(vars(args), full_config_class())
    passes = {
        step.name: switch
        for step in all_steps()
        if (switch := getattr(args, f"{step.name}_pass", None)) is not None
    }
    first = None if args.from_step is None else step_of(args.from_step, "--from")
    if first is not None and args.steps is None:
        # What follows a step that does not run unasked does not either.
        asked = [first] if first.runs_unasked(config) else all_steps()
        passes = {step.name: True for step in asked} | passes
    steps = requested_steps(config, args.steps, passes, is_demo=is_demo)

    def nodes_of(run: Run) -> list[Node]:
        chosen = steps if first is None else with_followers(run, first, steps)
        if not chosen:
            raise UserError("No step is left to run. Look at --steps, --from and --NAME_pass no.")
        chosen = [*chosen, *(step for step in closing_steps(passes) if step not in chosen)]
        if is_demo:
            from step.common.demo import demo_nodes

            # Its variants come before what shows them.
            return sorted(demo_nodes(run, chosen), key=lambda node: node.step.ends_every_run)
        return [node for step in chosen for node in step.nodes(run)]

    if is_demo and args.plan and not args.voc12_root.exists():
        sys.stdout.write(
            f"--demo draws a dataset into {args.voc12_root}, and then makes everything from it.\n"
        )
        return config
    if not is_demo:
        require_photographs(config.require_root())
        if args.steps is None and not has_exact_masks(config):
            logger.info(
                "Nothing is scored: %s has no folder SegmentationClass with exact masks.",
                config.voc12_root,
            )
    prepare_workers(config.num_workers)
    if is_demo and not args.plan:
        _draw(config)
    run_nodes(config, nodes_of, words, is_only_planned=args.plan, is_demo=is_demo)
    return config


def _runtime_of(config: Config) -> Runtime:
    """The machine as the settings ask for it."""
    return make_runtime(
        config.device, config.precision, config.num_workers, deterministic=config.deterministic
    )


def _draw(config: Config) -> None:
    """Draw the demo's dataset, unless it is there."""
    from step.common.demo import DEMO_DATASET
    from voc12.drawn import draw_dataset  # loads torch

    assert config.voc12_root is not None
    root = config.voc12_root
    runtime = _runtime_of(config)

    def draw() -> None:
        locks = RunLocks()
        locks.acquire(config.out_dir / NOTES, config.out_dir, "--out_dir")
        try:
            draw_dataset(root, **DEMO_DATASET)
        finally:
            locks.release()

    runtime.on_main(draw)


def run_nodes(
    config: Config,
    nodes_of: NodesOf,
    words: Sequence[str],
    *,
    is_only_planned: bool = False,
    is_demo: bool = False,
) -> None:
    """Plan the steps, run them, and report the results.

    Raises:
        UserError: for the user's mistakes; all problems of the inputs are in one message.
    """
    # Not before a run asks for them: they load torch, and --help shall not wait for it.
    from step.common.board import write_board
    from step.common.demo import comparison_table, demo_nodes
    from step.common.runner import DONE, Runner, results_table

    runtime = _runtime_of(config)
    setup_logging(None, quiet=not runtime.is_main)
    run = Run.of(config, runtime, is_only_planned=is_only_planned)
    runner = Runner(run, nodes_of(run))

    def prepare() -> None:
        runner.recover()
        plan = runner.make_plan()
        if is_only_planned:
            sys.stdout.write("\n\n".join(filter(None, (plan.table(), plan.objections()))) + "\n")
            return
        objections = plan.objections()
        if objections:
            logger.info("%s\n", plan.table())
            if config.out_dir.is_dir():
                run.save_notes()  # what was read need not be read again
            raise UserError(objections)
        runner.lock()
        setup_logging(config.log_path)
        logger.info("%s\n", plan.table())
        runner.write_begin(command_line(words, runtime.world_size))
        run.save_notes()

    try:
        with stoppable():
            runtime.on_main(prepare)
            if is_only_planned:
                return
            outcomes = list(runner.execute())
            if not runtime.is_main:
                return
            made = (each for each in outcomes if not each.node.step.ends_every_run)
            if all(outcome.what != DONE for outcome in made):
                logger.info("Nothing to do.")
            run.save_notes()
            text = (is_demo and comparison_table(config)) or results_table(outcomes)
            sys.stdout.write(f"\n{text}\n")
            steps = all_steps()
            nodes = demo_nodes(run, steps) if is_demo else [n for s in steps for n in s.nodes(run)]
            if any(outcome.node.step.has_panels for outcome in outcomes):
                _write_panels(run, nodes)
            if config.tensorboard:
                write_board(run, nodes, config.out_dir / PANELS_FOLDER)
            if places := _places(run, runner.nodes):
                sys.stdout.write(f"\n{places}\n")
    finally:
        try:
            runner.write_end()
        finally:
            runner.unlock()


def _write_panels(run: Run, nodes: Iterable[Node]) -> None:
    from step.common.panels import write_panels

    try:
        write_panels(run, nodes, run.config.panels)
    except UserError as error:  # the run is done and reported: a picture is no reason to fail
        logger.warning("Contact sheets (--panels) were not written: %s", error.message)


def _places(run: Run, nodes: Iterable[Node]) -> str:
    """Where to look now."""
    places: dict[str, Path | None] = {}
    for node in nodes:
        writes = node.step.writes
        name = node.step.name if writes is None else writes.name.removeprefix("the ")
        variant = f" ({node.variant})" if node.variant else ""
        places[name + variant] = node.step.place(node.run)
    places |= {
        "scores": ScoreFile.of(run.config).path,
        "contact sheets": run.config.out_dir / PANELS_FOLDER,
    }
    if run.config.tensorboard:
        places["TensorBoard: tensorboard --logdir"] = run.config.out_dir / BOARD_FOLDER
    there = {name: path for name, path in places.items() if path is not None and path.exists()}
    width = max(map(len, there), default=0)
    return "\n".join(f"{name.ljust(width)}  {path}" for name, path in there.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line and return the exit status (2: a user error)."""
    args = make_parser().parse_args(arguments)
    setup_logging(None)
    try:
        with watched_peers():
            run_arguments(args, sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt as error:
        return stopped(error)
    except PeerLost as error:
        logger.error("%s", error)
        return RUN_LOST
    except ReportedByMain:
        return USER_MISTAKE
    except Exception as error:
        message = failure_in_words(error)
        if message is None:
            raise
        logger.error("%s", message)
        return USER_MISTAKE
    return 0


if __name__ == "__main__":
    run_as_program(main)
