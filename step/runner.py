"""One step after another: their inputs looked at, their results timed, kept and tabled."""

import logging
import time
from collections.abc import Iterable
from types import ModuleType

from misc.errors import UserError
from misc.workspace import digest, remove_partial_files
from step.context import Context
from step.disk_use import announce, planned, space_problems
from step.preflight import report, setting_problems
from step.report import ScoreFile, describe, table

logger = logging.getLogger(__name__)


def check_inputs(context: Context, modules: Iterable[ModuleType]) -> None:
    """Look at the inputs of all steps before any of them runs.

    Raises:
        UserError: every problem of every step, in one message.
    """
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


def run_step(context: Context, name: str, module: ModuleType, scores: ScoreFile) -> None:
    """Run one step unless what it makes is there and current; time it and keep what it says."""
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
