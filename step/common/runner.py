"""The runner: everything about a step that is the same for all of them."""

import dataclasses
import gc
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from misc.config import NO_EFFECT, Config, plain
from misc.errors import UserError
from misc.log import Place, at, progress
from misc.runtime import Runtime
from misc.signals import StopRequest
from misc.workspace import (
    RunLocks,
    TrainingCurve,
    digest,
    read_memory,
    remove_partial_files,
    write_json,
)
from step.common.board import ShownCurve, board_of
from step.common.disk import announce_use
from step.common.plan import CURRENT, DUE, MISSING, STALE, Plan, Row, Status, make_plan, status_of
from step.common.runfile import DONE, KEPT, SKIPPED, RunFiles
from step.common.scorefile import ScoreFile
from step.common.setting_checks import setting_problems
from step.common.table import table
from step.graph import (
    CURVE,
    Artefact,
    ImageFiles,
    ImageStep,
    Node,
    ScoringStep,
    ShowingStep,
    TrainingStep,
    Work,
    all_steps,
)
from step.run import NOTES, Run

logger = logging.getLogger(__name__)


@dataclass
class Outcome:
    """The outcome of a step in this run.

    Attributes:
        node: the step.
        what: DONE, KEPT (it was current) or SKIPPED (not needed, put there, off).
        result: its result, from this run or an earlier one.
        images: images that it worked on in this run.
        seconds: time that it took in this run.
    """

    node: Node
    what: str
    result: dict[str, Any] = field(default_factory=dict)
    images: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Order:
    """What all processes must agree on before a step begins.

    Attributes:
        todo: images whose files are to be made.
        anew: they grow beside those that they replace.
        whole: they replace all files that are there.
    """

    todo: Sequence[str]
    anew: bool = False
    whole: bool = False


class Runner:
    """Plans a list of steps, and runs them in their order."""

    def __init__(self, run: Run, nodes: Sequence[Node]) -> None:
        """Take the run itself, and the steps that it was asked for, variants among them."""
        self.run = run
        self.nodes = list(nodes)
        self.plan = Plan([])
        self._touched: set[Path] = set()
        self._files: RunFiles | None = None
        self._number = 0  # of the steps that were begun
        self._stop = StopRequest()
        self._locks = RunLocks()

    def recover(self) -> None:
        """Finish what a stopped run was about to put into its place, of whatever step.

        Raises:
            UserError: if another run is at work there.
        """
        out_dir = self.run.config.out_dir
        if out_dir.is_dir() and not self.run.is_only_planned:
            self._lock_out_dir()
            remove_partial_files(out_dir)
            remove_partial_files(self.run.notes)
        for node in (*self.nodes, *self._other_nodes()):
            artefact = node.step.writes
            if artefact is None or not artefact.stored(node.run).is_half_replaced():
                continue
            try:
                self._lock(artefact, node.run)
            except UserError:
                if self.run.is_only_planned:
                    continue  # the other run is about to finish it
                raise
            if artefact.stored(node.run).is_half_replaced():  # by nobody meanwhile
                artefact.stored(node.run).recover()
                # What stands there is of the result that was replaced.
                ScoreFile.of(node.run.config).drop(node.key)

    def _other_nodes(self) -> list[Node]:
        """All steps that were not asked for."""
        asked = {node.step.name for node in self.nodes}
        others = (step for step in all_steps() if step.name not in asked)
        return [node for step in others for node in step.nodes(self.run)]

    def lock(self) -> None:
        """Keep other runs from writing where this one will write, until `unlock`.

        Raises:
            UserError: if another run writes there.
        """
        self._lock_out_dir()
        for row in self.plan.rows:
            if row.will_run:
                for artefact in row.node.step.written(row.node.run):
                    self._lock(artefact, row.node.run)

    def unlock(self) -> None:
        """Let other runs write here."""
        self._locks.release()

    def write_begin(self, command: str) -> None:
        """Write down what this run was asked for, and how its steps stand."""
        self._files = RunFiles(command, self.run.runtime)
        self._files.begin(self.run.config, self.plan.rows)

    def write_end(self) -> None:
        """Write down how long it took."""
        if self._files is not None:
            self._files.end()

    def _lock_out_dir(self) -> None:
        self._locks.acquire(self.run.notes, self.run.config.out_dir, "--out_dir")

    def _lock(self, artefact: Artefact, run: Run) -> None:
        """Lock the output folder that an artefact lies in, of whichever run, and itself.

        Itself it is locked where it lies elsewhere, or where another run has done so.
        """
        path, flag = artefact.path(run).resolve(), f"--{artefact.flag}"
        owner = next((each for each in path.parents if (each / NOTES).is_dir()), None)
        if owner is not None:
            self._locks.acquire(owner / NOTES, owner, flag)
        is_folder = isinstance(artefact, ImageFiles)
        own = path / NOTES if is_folder else path.with_name(f".{path.name}{NOTES}")
        if own.is_dir() or not path.is_relative_to(self.run.config.out_dir.resolve()):
            self._locks.acquire(own, path, flag)

    def make_plan(self) -> Plan:
        """Look at everything before anything is written."""
        others = [
            node
            for node in self._other_nodes()
            if not (isinstance(node.step, ShowingStep) or _is_always_due(node))
        ]
        overwrite = self.run.config.overwrite
        self.plan = make_plan(self.nodes, others, overwrite, self._redo().done())
        self.plan.problems[:0] = setting_problems(self.run, self.nodes)
        return self.plan

    def execute(self) -> Iterator[Outcome]:
        """Run every step that is to be made; the outcome of each, as it ends."""
        # Only the main process has looked; the others do as it says.
        rows = [row for row in self.plan.rows if row.is_asked]
        rows = rows or [Row(node, Status(DUE)) for node in self.nodes]
        for k, row in enumerate(rows):
            yield self._execute(row, rows[k + 1 :])
        self.run.runtime.on_main(self._redo().forget)

    def _redo(self) -> "Redo":
        return Redo(self.run.notes / "redo.json", self.run.config, self.nodes)

    def _execute(self, row: Row, later: Sequence[Row]) -> Outcome:
        node, runtime = row.node, row.node.run.runtime
        order = runtime.on_main(lambda: self._begin(row))
        if order is None:
            state = row.status.state
            what = KEPT if state in (CURRENT, MISSING, STALE) else SKIPPED
            if self._files is not None:
                self._files.note(node, KEPT if what == KEPT else state)
            return Outcome(node, what, self._earlier_result(row))
        start = time.perf_counter()
        place = self._next_place(later)
        with at(place):
            result = self._make(node, order)
        seconds = time.perf_counter() - start
        outcome = Outcome(node, DONE, result, result.get("images", len(order.todo)), seconds)
        if runtime.is_main:
            self._keep(row, outcome)
        for artefact in node.step.written(node.run):
            self._touched.add(artefact.path(node.run))
        said = node.step.describe(result) or f"{outcome.images} images"
        logger.info("%s%s: %s (%.1f s)", place.label, node.title, said, seconds)
        if isinstance(node.step, TrainingStep):
            self._obey_stop(runtime)
        return outcome

    def _next_place(self, later: Sequence[Row]) -> Place:
        """Where in the run the step is that now begins, and how long the later ones will take."""
        self._number += 1
        expected = [self._expected_seconds(row) for row in later if row.will_run]
        known = [seconds for seconds in expected if seconds is not None]
        return Place(
            self._number, self._number + len(expected), sum(known), len(expected) - len(known)
        )

    def _expected_seconds(self, row: Row) -> float | None:
        """How long a step will take, by the last time that it or a variant of it ran here."""
        assert self._files is not None
        how = self._files.measured(row.node)
        if how is None:
            return None
        if isinstance(row.node.step, ImageStep):
            return len(row.todo) / max(how["images_per_second"], 1e-9)
        return how["seconds"]

    def _earlier_result(self, row: Row) -> dict[str, Any]:
        """What stands in the scores; notes on what is current are brought up to date."""
        node, scores = row.node, ScoreFile.of(row.node.run.config)
        result = scores.step(node.key)
        if not (isinstance(node.step, ImageStep) and row.status.state == CURRENT):
            return result
        noted = result | node.step.notes(node.run)
        if noted != result and node.run.runtime.is_main:
            scores.put(node.key, noted)
        return noted

    def _obey_stop(self, runtime: Runtime) -> None:
        """Stop if a process of the run was asked to when a training had nothing left to do."""
        import torch

        asked = torch.tensor(float(self._stop.is_asked), device=runtime.device)
        if runtime.sum_over_processes(asked):
            self._stop.obey()

    def _begin(self, row: Row) -> Order | None:
        """Claim the place of a step's result; None if there is nothing to do."""
        node = row.node
        step, run = node.step, node.run
        follows = any(source.path(run) in self._touched for source in step.sources(run))
        if not (row.will_run or follows):
            return None
        for artefact in step.written(run):
            run.ledger.pop(artefact.path(run), None)
        status = status_of(node)
        row.status = status
        if not (row.is_forced or status.state in (MISSING, STALE, DUE)):
            return None
        todo = status.ids if row.is_forced else status.todo
        anew = row.is_forced or status.anew
        if isinstance(step, ImageStep):
            return self._begin_images(node, step, status, todo, anew)
        if isinstance(step, TrainingStep):
            assert status.record is not None
            step.writes.file(run).begin(status.record)
        return Order(todo)

    def _begin_images(
        self, node: Node, step: ImageStep, status: Status, todo: Sequence[str], anew: bool
    ) -> Order:
        assert status.record is not None
        folder = step.writes.folder(node.run)
        # A stopped run may have made some of the successors.
        left = folder.begin(status.record, todo, anew=anew).missing(todo)
        announce_use(node, left)
        return Order(left, anew, status.whole)

    def _make(self, node: Node, order: Order) -> dict[str, Any]:
        step, run = node.step, node.run
        if isinstance(step, ImageStep):
            return self._make_images(node, step, order)
        if isinstance(step, TrainingStep):
            return self._train(node, step, order)
        work = Work(run, list(order.todo))
        arguments = step.arguments(run)
        return run.runtime.on_main(lambda: step.make(work, **arguments))

    def _make_images(self, node: Node, step: ImageStep, order: Order) -> dict[str, Any]:
        run, runtime = node.run, node.run.runtime
        folder = step.writes.folder(run)
        share = runtime.shard(order.todo)
        work = Work(run, share, folder=folder.staging if order.anew else folder)
        made = step.make(work, **step.arguments(run)) if share else ()
        for _ in progress(made, desc=node.title, total=len(share)):
            pass
        runtime.barrier()
        if order.anew:
            runtime.on_main(lambda: folder.complete(whole=order.whole))
        return {"images": len(order.todo), **step.notes(run)}

    def _train(self, node: Node, step: TrainingStep, order: Order) -> dict[str, Any]:
        result = self._trained(node, step, order)
        # Accelerate keeps what it prepared: several networks would pile up in a GPU's memory.
        node.run.runtime.accelerator.free_memory()
        gc.collect()  # in mixed precision it ties a network into a ring
        return result

    def _trained(self, node: Node, step: TrainingStep, order: Order) -> dict[str, Any]:
        import torch

        from misc.training import Checkpoints, train
        from misc.weights import save_weights

        run, runtime, config = node.run, node.run.runtime, node.run.config
        weights = step.writes.file(run)
        torch.manual_seed(config.seed)
        learning = step.make(Work(run, list(order.todo), weights=weights), **step.arguments(run))
        updates = step.updates(run, len(order.todo))
        logger.info("%s: %d updates, %d images each", node.title, updates, learning.plan.batch_size)
        checkpoints = Checkpoints(weights.checkpoint, config.checkpoint_every)
        path = weights.training / weights.beside(CURVE).name
        curve = None
        if runtime.is_main:
            curve = ShownCurve(path, board_of(node)) if config.tensorboard else TrainingCurve(path)
        trained = train(runtime, learning, checkpoints, desc=node.title, curve=curve)
        self._stop = trained.stop
        if runtime.is_main:
            save_weights(learning.network, weights.training / weights.path.name)
            weights.complete()
        runtime.barrier()
        plan = learning.plan
        images = round(trained.steps * plan.images_per_epoch / plan.steps_per_epoch)
        return {"images": images, "updates": updates, "loss": trained.loss, **learning.notes}

    def _keep(self, row: Row, outcome: Outcome) -> None:
        """Enter a result into the scores, and how it was made into run.json."""
        node, result = row.node, outcome.result
        if row.warnings:
            result["warnings"] = row.warnings
        record = row.status.record if isinstance(node.step, ScoringStep) else None
        if not isinstance(node.step, ShowingStep):
            ScoreFile.of(node.run.config).put(node.key, result, record)
        assert self._files is not None
        how = {
            "seconds": outcome.seconds,
            "images": outcome.images,
            "images_per_second": outcome.images / outcome.seconds,
            "seed": node.run.config.seed,
            "settings": node.step.settings(node.run),
        }
        self._files.note(node, DONE, how)
        if row.is_forced:
            self._redo().add(node)


def _is_always_due(node: Node) -> bool:
    return isinstance(node.step, ScoringStep) and node.step.is_always_due


class Redo:
    """Remembers which steps a stopped run with `--overwrite all` has made again already."""

    def __init__(self, path: Path, config: Config, nodes: Sequence[Node]) -> None:
        """The memory at `path` of the command with these settings and steps."""
        self.path = path
        settings = {
            field.name: plain(getattr(config, field.name))
            for field in dataclasses.fields(config)
            if field.metadata["decides"] != NO_EFFECT
        }
        self._command = digest([settings, [node.title for node in nodes]])

    def done(self) -> list[str]:
        """Titles of the steps; none if the last run was of another command, or ended."""
        content = read_memory(self.path)
        done = content.get("done") if content.get("command") == self._command else None
        return [title for title in done if isinstance(title, str)] if isinstance(done, list) else []

    def add(self, node: Node) -> None:
        """Remember a step."""
        write_json(self.path, {"command": self._command, "done": [*self.done(), node.title]})

    def forget(self) -> None:
        """The run has ended: the same command starts from the beginning."""
        self.path.unlink(missing_ok=True)


def results_table(outcomes: Sequence[Outcome]) -> str:
    """The outcome of each step, one row each."""
    rows = [
        [
            each.node.title,
            each.what,
            str(each.images) if each.what == DONE else "-",
            f"{each.seconds:.1f}" if each.what == DONE else "-",
            _described(each),
        ]
        for each in outcomes
    ]
    return table(["step", "", "images", "seconds", "result"], rows)


def _described(outcome: Outcome) -> str:
    """A result in one line; what an earlier run wrote may have been changed since."""
    if not outcome.result:
        return ""
    try:
        return outcome.node.step.describe(outcome.result)
    except (AttributeError, KeyError, TypeError, ValueError):
        if outcome.what == DONE:
            raise
        return "unknown: scores.json was changed"
