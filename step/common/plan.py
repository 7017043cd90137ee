"""The plan: the state of every step, what is going to be made and why, before work begins."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from misc.config import OVERWRITE_ALL, OVERWRITE_NOTHING
from misc.errors import UserError
from misc.workspace import (
    Identity,
    ImageFolder,
    Record,
    WeightsFile,
    changed_settings,
    digest,
    identity_of_images,
)
from step.common.checks import one_message, problems_of
from step.common.disk import permission_problems, space_problems, use_of
from step.common.results import Planned
from step.common.scorefile import ScoreFile
from step.common.table import table
from step.graph import (
    ImageStep,
    Node,
    ScoringStep,
    ShowingStep,
    Source,
    Step,
    TrainingStep,
    all_artefacts,
)
from step.run import Run

CURRENT, MISSING, STALE, DUE = "current", "missing", "stale", "due"
TAKEN, NOT_NEEDED, OFF, BROKEN = "taken as they are", "not needed", "off", "unclear"

LIST = "the list of images"


class Why(NamedTuple):
    """A reason for a state.

    Attributes:
        text: what the plan says.
        follows: the step whose result changes, where that is the reason.
    """

    text: str
    follows: str = ""


RESUMES = "resumes the training that was stopped"
BY_YOU = Why("put there by you")


@dataclass(frozen=True)
class Status:
    """The state of a step.

    Attributes:
        state: one of the words above.
        why: the reasons.
        ids: the images that it reads.
        todo: those whose files are missing or to be made again.
        anew: of `todo`, files are there and will be replaced.
        whole: all files that are there were made differently.
        record: what its result would be made from now; None where nothing is to be recorded.
        notes: what else there is to say.
    """

    state: str
    why: tuple[Why, ...] = ()
    ids: Sequence[str] = ()
    todo: Sequence[str] = ()
    anew: bool = False
    whole: bool = False
    record: Record | None = None
    notes: tuple[str, ...] = ()

    @property
    def reasons(self) -> str:
        """All reasons and notes in one line."""
        return "; ".join(dict.fromkeys([*(why.text for why in self.why), *self.notes]))


def status_of(node: Node) -> Status:
    """The state of a step now, by what is on disk and what the ledger announces.

    Raises:
        UserError: if problems with its inputs prevent that.
    """
    step, run = node.step, node.run
    if reason := step.why_off(run):
        return Status(OFF, (Why(reason),))
    if isinstance(step, ShowingStep):
        ids = step.images(run)
        return Status(DUE, (), ids, ids)
    if isinstance(step, ScoringStep):
        return _status_of_scores(node, step)
    if isinstance(step, TrainingStep):
        return _status_of_weights(node, step)
    assert isinstance(step, ImageStep)
    return _status_of_images(node, step)


def _status_of_images(node: Node, step: ImageStep) -> Status:
    run, ids = node.run, step.images(node.run)
    made = step.writes.made(run)
    missing = made.missing(ids)
    if made.is_foreign:
        if missing:
            return Status(BROKEN, (Why(made.mixture(ids)),), ids)
        return Status(TAKEN, (BY_YOU,), ids)
    record, parts = _record_of_images(node, ids)
    earlier = made.record
    if earlier is None or made.folder.is_empty():
        return Status(MISSING, (_count(node, made.folder, ids, ids),), ids, ids, record=record)
    gone, known, now = set(missing), earlier.images, record.images
    shared = _changes(node, record, earlier)
    changed = {i for i in ids if i not in gone and known.get(i, now[i]) != now[i]}
    why = [*shared, *_changed_parts(changed, record, earlier, parts)]
    if missing and not shared:
        why.append(_count(node, made.folder, missing, ids))
    todo = ids if shared else [i for i in ids if i in gone or i in changed]
    notes = []
    if grown := made.folder.grown(record, todo):
        notes.append(f"{len(grown)} of them made already")
    elif made.folder.staging.path.exists():
        notes.append(_left_over(made.folder.staging.path))
    if not why:
        return Status(CURRENT, (), ids, record=record, notes=tuple(notes))
    if not (shared or changed):
        notes += _may_change(record, earlier)
        return Status(MISSING, tuple(why), ids, missing, record=record, notes=tuple(notes))
    if shared and (others := known.keys() - set(ids)):
        notes.append(f"removes those of {len(others)} other images")
    return Status(
        STALE, tuple(why), ids, todo, anew=True, whole=bool(shared), record=record,
        notes=tuple(notes),
    )  # fmt: skip


def _count(node: Node, folder: ImageFolder, some: Sequence[str], ids: Sequence[str]) -> Why:
    """How many are missing; a place that the user named is told, which may be mistyped."""
    is_usual = folder.path.is_relative_to(node.run.config.out_dir)
    where = "" if is_usual else f" in {folder.path}"
    return Why(f"{len(some)} of {len(ids)} missing{where}")


def _left_over(path: Path) -> str:
    """What to say of a successor that a stopped run with other settings left behind."""
    return f"{path} is left of a run that was stopped"


def _may_change(record: Record, earlier: Record) -> list[str]:
    """What is made again from the same settings may come out differently, as on a GPU."""
    return [
        f"all, if {name} come out differently"
        for name, was in earlier.inputs.items()
        if was.content and name in record.inputs and not record.inputs[name].content
    ]


def _record_of_images(node: Node, ids: Sequence[str]) -> tuple[Record, list[str]]:
    """What the files of `ids` would be made from, and the sources that each image's part tells."""
    inputs, parts = {}, {}
    for source in node.step.sources(node.run):
        shared, own = source.shared(node.run), source.own(node.run, ids)
        if shared is not None:
            inputs[source.name] = shared
        if own:
            parts[source.name] = own
    images = {i: ",".join(own[i] for own in parts.values()) for i in ids}
    return Record(node.step.settings(node.run), inputs, images), list(parts)


def _changed_parts(
    changed: Iterable[str], record: Record, earlier: Record, parts: Sequence[str]
) -> list[Why]:
    """Of which sources the images' own parts changed, and of how many images."""
    counts = dict.fromkeys(parts, 0)
    for image_id in changed:
        was, now = (each.images[image_id].split(",") for each in (earlier, record))
        for k, name in enumerate(parts):
            counts[name] += k >= len(was) or was[k] != now[k]
    return [
        Why(f"{name} of {count} image{'s' * (count > 1)} changed")
        for name, count in counts.items()
        if count
    ]


def _record_of_all(node: Node, ids: Sequence[str]) -> tuple[Record, list[str]]:
    """What a result for all of `ids` would be made from; the inputs that go with these images."""
    inputs, parts = {LIST: Identity.of_content(digest(list(ids)))}, []
    for source in node.step.sources(node.run):
        shared, own = source.shared(node.run), source.own(node.run, ids)
        if own:
            of_ids = {i: own[i] for i in ids}
            inputs[source.name] = identity_of_images(shared or Identity.of_content("none"), of_ids)
            parts.append(source.name)
        elif shared is not None:
            inputs[source.name] = shared
    return Record(node.step.settings(node.run), inputs), parts


def _status_of_weights(node: Node, step: TrainingStep) -> Status:
    weights, ids = step.writes.file(node.run), step.images(node.run)
    if weights.is_foreign():
        return Status(TAKEN, (BY_YOU,), ids)
    record, parts = _record_of_all(node, ids)
    begun = weights.begun()
    resumes = begun is not None and record.is_made_like(begun)
    left = () if begun is None else (_left_over(weights.training),)
    notes = (RESUMES,) if resumes else left
    earlier = weights.record()
    if weights.exists() and earlier is not None:
        why = _changes(node, record, earlier, parts)
        if why:
            return Status(STALE, why, ids, ids, anew=True, record=record, notes=notes)
        return Status(CURRENT, (), ids, record=record, notes=left)
    if begun is not None and not resumes:
        changes = _changes(node, record, begun, parts)
        why = tuple(each._replace(text=f"stopped training: {each.text}") for each in changes)
        return Status(STALE, why, ids, ids, anew=True, record=record)
    length = step.length(node.run, len(ids))
    return Status(MISSING, (), ids, ids, record=record, notes=(*notes, length))


def _status_of_scores(node: Node, step: ScoringStep) -> Status:
    ids = step.images(node.run)
    if step.is_always_due:
        return Status(DUE, (), ids, ids)
    record, parts = _record_of_all(node, ids)
    earlier = ScoreFile.of(node.run.config).record(node.key)
    if earlier is None:
        return Status(MISSING, (), ids, ids, record=record)
    why = _changes(node, record, earlier, parts)
    return Status(STALE if why else CURRENT, why, ids, ids if why else (), record=record)


def _changes(
    node: Node, record: Record, earlier: Record, of_images: Sequence[str] = ()
) -> tuple[Why, ...]:
    """Why what was made from `earlier` does not fit `record`.

    Where the list of images changed, the inputs `of_images` belong to other images.
    """
    settings, inputs = record.changes_since(earlier)
    if LIST in inputs:
        inputs = [LIST, *(name for name in inputs if name not in (LIST, *of_images))]
    changed = [_input_change(node, name, record, earlier) for name in inputs]
    return (*map(Why, settings), *changed)


def _input_change(node: Node, name: str, record: Record, earlier: Record) -> Why:
    source = next((s for s in node.step.sources(node.run) if s.name == name), None)
    path = None if source is None else source.path(node.run)
    planned = None if path is None else node.run.ledger.get(path)
    text = f"{name} changed" if planned is None else f"follows {planned.step}"
    was, now = earlier.inputs.get(name), record.inputs.get(name)
    if was and now and was.settings is not None and now.settings is not None:
        differing = changed_settings(was.settings, now.settings)
        if differing:
            text += f" ({', '.join(differing)})"
    return Why(text, "" if planned is None else planned.step)


@dataclass
class Row:
    """A step in the plan.

    Attributes:
        node: the step.
        status: its state.
        is_asked: whether this run requests it.
        is_forced: it is made again though it may be current.
        will_run: it is going to be made.
        warnings: what is odd about its inputs, but may be meant.
    """

    node: Node
    status: Status
    is_asked: bool = True
    is_forced: bool = False
    will_run: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def wants(self) -> bool:
        """True if there is something to make, if that is allowed."""
        return self.is_forced or self.status.state in (MISSING, STALE, DUE)

    @property
    def todo(self) -> Sequence[str]:
        """The images whose files are to be made."""
        return self.status.ids if self.is_forced else self.status.todo

    def cells(self) -> list[str]:
        """State, reasons and number of images, for the table."""
        status = self.status
        state, why = status.state, status.reasons
        if status.state == TAKEN:
            state, why = f"{TAKEN} ({why})", ""
        elif self.is_forced and status.state == CURRENT:
            why = "--overwrite all"
        elif self.is_forced and status.state == MISSING:
            why = "; ".join(filter(None, (why, "--overwrite all")))
        elif not self.is_asked and status.state != OFF:
            why = f"{why} (not asked for)"
        return [self.node.title, state, why, str(len(self.todo)) if self.wants else ""]


@dataclass
class Plan:
    """Every step that was asked for, and those that depend on them, in their order."""

    rows: list[Row]
    problems: list[str] = field(default_factory=list)
    refused: list[Row] = field(default_factory=list)

    def table(self) -> str:
        """The plan as a table, and what is odd but may be meant below it."""
        header = ["step", "state", "why", "images to do"]
        rows = table(header, [row.cells() for row in self.rows], width=100)
        warnings = dict.fromkeys(text for row in self.rows for text in row.warnings)
        told = "\n".join(f"Warning: {text}" for text in warnings)
        return "\n\n".join(filter(None, (rows, told)))

    def objections(self) -> str:
        """Why the plan cannot or must not be carried out, and what to do; "" if it can."""
        if self.problems:
            return one_message(self.problems)
        return refusal(self) if self.refused else ""


def make_plan(
    nodes: Sequence[Node], others: Iterable[Node], overwrite: str, redone: Iterable[str] = ()
) -> Plan:
    """Look at every step, and decide what is to be made.

    Args:
        nodes: the steps that were asked for, in their order.
        others: further steps, which are shown where they depend on these.
        overwrite: what may be made again: OVERWRITE_NOTHING, _STALE or _ALL.
        redone: titles of those that an interrupted run with OVERWRITE_ALL has made again already.
    """
    plan = Plan([])
    done = set(redone)
    for node in nodes:
        status, problems = _status_or_problems(node)
        plan.problems += problems
        row = Row(node, status)
        row.is_forced = (
            overwrite == OVERWRITE_ALL
            and status.state in (CURRENT, STALE, MISSING)
            and node.title not in done
        )
        plan.rows.append(row)
        if row.wants or status.state == BROKEN:
            announce(node, status)
    _leave_out_what_nobody_needs(plan.rows)
    for row in plan.rows:
        is_free = row.status.state != STALE or isinstance(row.node.step, ScoringStep)
        row.will_run = row.wants and (is_free or overwrite != OVERWRITE_NOTHING)
        if row.wants and not row.will_run:
            plan.refused.append(row)
    plan.problems += _problems(plan.rows)
    for row in plan.rows:
        row.warnings = _warnings(row)
    plan.rows += _dependents(plan.rows, others)
    return plan


def _status_or_problems(node: Node) -> tuple[Status, list[str]]:
    """The state of a step; where that is unknown, what is wrong with its inputs."""
    try:
        status = status_of(node)
        return status, [status.reasons] if status.state == BROKEN else []
    except UserError as error:
        message = error.message
    step, run = node.step, node.run
    ids: list[str] = []
    problems: list[str] = []
    try:
        ids = step.images(run)
        for source in step.sources(run):
            problems += _problems_of_source(source, run, ids)
    except UserError as error:
        problems.append(error.message)
    return Status(BROKEN, (Why("see the problems below"),), ids), problems or [message]


def _problems_of_source(source: Source, run: Run, ids: Sequence[str]) -> list[str]:
    try:
        return source.problems(run, ids)
    except UserError as error:
        return [error.message]


def announce(node: Node, status: Status) -> None:
    """Enter into the ledger what a step is going to make."""
    step, run = node.step, node.run
    images: Mapping[str, str] | None = None
    if status.record is None:
        shared = Identity("unclear")
        if isinstance(step, ImageStep) and (made := step.writes.made(run)).is_foreign:
            images = dict.fromkeys(made.missing(status.ids), "")  # the others are there
    else:
        shared, images = status.record.identity(), status.record.images
        if isinstance(step, TrainingStep):
            shared, images = Identity(shared.recipe, settings=status.record.settings), None
    for artefact in step.written(run):
        run.ledger[artefact.path(run)] = Planned(step.name, shared, images)


def _leave_out_what_nobody_needs(rows: Sequence[Row]) -> None:
    """Networks and the like are made for steps that read them, if these have anything to do.

    Whatever leads only to weights that the user has put there is not needed either.
    """
    for row in reversed(rows):
        step, run = row.node.step, row.node.run
        if not row.wants or row.is_forced or step.writes is None or RESUMES in row.status.notes:
            continue
        path = step.writes.path(run)
        readers = [other for other in rows if _reads(other.node, path)]
        if step.is_only_for_others:
            idle: tuple[str, ...] = (CURRENT, TAKEN, OFF, NOT_NEEDED)
        else:  # what users look at is made whoever reads it
            idle = (TAKEN,) if step.place(run) is None else ()
        if readers and all(not each.wants and each.status.state in idle for each in readers):
            why = (Why("no step with work to do reads it"),)
            row.status = Status(NOT_NEEDED, why, row.status.ids, record=row.status.record)


def _reads(node: Node, path: Path) -> bool:
    try:
        return any(source.path(node.run) == path for source in node.step.sources(node.run))
    except UserError:
        return False


def _problems(rows: Sequence[Row]) -> list[str]:
    """Problems that prevent what is to be made."""
    problems = []
    for row in rows:
        if row.wants:
            step, run, todo = row.node.step, row.node.run, row.todo
            for source in step.sources(run):
                problems += _problems_of_source(source, run, todo)
            problems += _problems_of_step(step, run, todo)
            problems += permission_problems(row.node)
    if not problems:
        uses = [use for row in rows if row.will_run and (use := use_of(row.node, row.todo))]
        problems += space_problems(uses)
    return problems


def _warnings(row: Row) -> list[str]:
    """What is odd about the inputs of a step that has something to do; problems hide it."""
    if not row.wants or row.status.state == BROKEN:
        return []
    found: list[str] = []
    problems_of(lambda: found.extend(row.node.step.warnings(row.node.run, row.status.ids)))
    return list(dict.fromkeys(found))


def _problems_of_step(step: Step, run: Run, todo: Sequence[str]) -> list[str]:
    problems: list[str] = []
    raised = problems_of(lambda: problems.extend(step.problems(run, todo)))
    if isinstance(step, TrainingStep):
        problems += _table_problems(step, step.writes.file(run))
    return problems + raised


def _table_problems(step: TrainingStep, weights: WeightsFile) -> list[str]:
    """Files of the user's that lie where the training would keep its tables."""
    problems = []
    for ending, header in step.tables.items():
        path = weights.beside(ending)
        if path.name in weights.companions() or not path.exists():
            continue
        if not path.is_file() or _first_line(path) != header.encode():
            problems.append(
                f"{path} is where {step.name} would keep its {header.replace(',', ', ')}, but the "
                "file there was not made by it: it is not overwritten. Move it away, or choose "
                f"other weights with {weights.flag}."
            )
    return problems


def _first_line(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.readline().rstrip()


def _dependents(rows: Sequence[Row], others: Iterable[Node]) -> list[Row]:
    """Steps that were not asked for and whose results will no longer be current."""
    shown: list[Row] = []
    changing = {
        artefact.path(row.node.run)
        for row in rows
        if row.is_forced or row.status.state == STALE
        for artefact in row.node.step.written(row.node.run)
    }
    for node in others:
        if not any(_reads(node, path) for path in changing):
            continue
        try:
            status = status_of(node)
        except UserError:
            continue  # of a step that nobody asked for
        if status.state == STALE:
            announce(node, status)
            changing |= {artefact.path(node.run) for artefact in node.step.written(node.run)}
            shown.append(Row(node, status, is_asked=False))
    return shown


def refusal(plan: Plan) -> str:
    """Why the run does not start, and what to type."""
    lines = [f"{row.node.title}: {row.status.reasons}" for row in plan.refused]
    redone = _step_names(row for row in plan.rows if row.is_asked and row.wants)
    ways = {"redo exactly what is stale": f"--steps {','.join(redone)} --overwrite"}
    off = _to_switch_off(plan)
    if off and len(off) < sum(row.is_asked for row in plan.rows):
        taken = " ".join(f"--{name}_pass no" for name in _step_names(off))
        ways["use the existing results as they are"] = taken
    ways["keep them and make new ones elsewhere"] = _elsewhere(plan)
    what = "These were" if len(lines) > 1 else "This was"
    return (
        f"{what} made with different settings or inputs:\n  " + "\n  ".join(lines) + "\n"
        "Nothing was started, and nothing was changed. Add one of these to the command:\n"
        + "".join(f"  to {way}: {flags}\n" for way, flags in ways.items())
        + "Or restore the earlier settings."
    )


def _elsewhere(plan: Plan) -> str:
    """Flags that name other places for what is stale."""
    flags = {row.node.step.writes.flag for row in plan.refused if row.node.step.writes}
    words = []
    for flag in [each.flag for each in all_artefacts() if each.flag in flags]:
        places = {row.node.run.config.path(flag) for row in plan.rows}
        if len(places) > 1:  # the variants of the run name places of their own
            return "--out_dir NEW"
        (path,) = places
        words.append(f"--{flag} {path.with_name(f'{path.stem}_new{path.suffix}')}")
    return " ".join(words)


def _step_names(rows: Iterable[Row]) -> list[str]:
    steps = (row.node.step for row in rows)
    return list(dict.fromkeys(step.runs_with or step.name for step in steps))


def _to_switch_off(plan: Plan) -> list[Row]:
    """What is stale by itself, and what would be made for that alone.

    Nothing where that would not do: of a training that was stopped, there are no weights yet.
    """
    for row in plan.refused:
        step = row.node.step
        if isinstance(step, TrainingStep) and not step.writes.file(row.node.run).exists():
            return []
    names = {row.node.step.name for row in plan.refused}
    off = [row for row in plan.refused if not _only_follows(row, names)] or list(plan.refused)
    for row in reversed(plan.rows):
        step = row.node.step
        if not (row.status.state == MISSING and step.is_only_for_others and step.writes):
            continue
        path = step.writes.path(row.node.run)
        readers = [other for other in plan.rows if other.wants and _reads(other.node, path)]
        if readers and all(reader in off for reader in readers):
            off.append(row)
    return [row for row in plan.rows if row in off]


def _only_follows(row: Row, names: Iterable[str]) -> bool:
    """True if all reasons are that other steps, of these names, are stale."""
    return all(why.follows in names for why in row.status.why)
