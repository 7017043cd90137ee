"""Compare sets of CAMs and saliency maps by WSSS-BED's masks, at all thresholds at once."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from misc.config import distinct_numbers, distinct_seeds, setting
from misc.errors import UserError, some_images
from step.artefacts import CAMS, SALIENCY_MAPS, SCORED_MASKS, ExactMasks
from step.benchmark.sets import MapSet, Sets, trained_variants
from step.common.checks import map_problems, problems_of
from step.graph import Node, ScoringStep, Work

if TYPE_CHECKING:
    from step.run import Run

logger = logging.getLogger(__name__)

FLAG_OF_CHOICE = "--benchmark_choose_images 0"
CHOSEN_MASKS = ExactMasks(f"Put masks of the images' sizes there, or pass {FLAG_OF_CHOICE}.")


@dataclass(frozen=True)
class Settings:
    """What is compared, at which thresholds."""

    heading: ClassVar[str] = "comparing sets of CAMs and saliency maps (benchmark)"

    benchmark_cams: tuple[str, ...] = setting(
        (),
        "CAM sets: name=folder,... or name=folder:format,... (default: own=the --cam_out_dir)",
        decides="input",
    )
    benchmark_sals: tuple[str, ...] = setting(
        (), "saliency sets: name=folder,... (default: own=the --sal_root)", decides="input"
    )
    benchmark_act_thres: tuple[float, ...] = setting(
        tuple(i / 20 for i in range(20)),
        "activation thresholds: numbers, or first:last:count",
        at_least=0,
        at_most=1,
        rule=distinct_numbers,
    )
    benchmark_sal_thres: tuple[float, ...] = setting(
        (0.0, 0.2, 0.4, 0.6, 0.8),
        "saliency thresholds: numbers, or first:last:count; 0 is soft",
        at_least=0,
        at_most=1,
        rule=distinct_numbers,
    )
    benchmark_choose_images: int = setting(
        100,
        "number of --train_list images to choose thresholds on, to report the loss of this choice",
        at_least=0,
        decides="input",
        at_most=10**7,
    )
    benchmark_sbe: bool = setting(
        False,
        "first train and score SBE, the salient walk and BES on every pair of sets",
        decides="no effect",
    )
    benchmark_seeds: tuple[int, ...] = setting(
        (), "seeds of --benchmark_sbe, such as 0,1,2 (default: --seed)", at_least=0,
        rule=distinct_seeds, decides="input",
    )  # fmt: skip


class Benchmark(ScoringStep):
    """Every pair of sets; what was counted before is kept."""

    help = "compare CAM and saliency sets"
    flags = Settings
    is_default = False
    in_demo = False
    is_always_due = True
    has_panels = False

    def nodes(self, run: "Run") -> list[Node]:
        """With `--benchmark_sbe`, SBE and its kin for each pair and seed, then the comparison."""
        variants = trained_variants(run) if run.setting("benchmark_sbe") else ()
        return [*(node for each in variants for node in each.nodes), Node(self, run)]

    def images(self, run: "Run") -> list[str]:
        return run.eval_ids

    def problems(self, run: "Run", todo: Sequence[str]) -> list[str]:
        from misc.wsss_bed import ThresholdGrid

        sets = Sets(run)
        problems = problems_of(
            lambda: ThresholdGrid(
                run.setting("benchmark_act_thres"),
                run.setting("benchmark_sal_thres"),
                run.dataset.num_classes + 1,
            )
        )
        problems += SCORED_MASKS.problems(run, sets.evaluated)
        evaluated = set(sets.evaluated)
        extra = [image_id for image_id in sets.ids if image_id not in evaluated]
        problems += CHOSEN_MASKS.problems(run, extra)
        for cams in sets.cams:
            problems += _cam_problems(sets, cams)
        for saliency in sets.saliency:
            of_set = sets.run_of(saliency=saliency)
            made, dataset = SALIENCY_MAPS.made(of_set), of_set.dataset
            if made is not None:
                paths = {i: dataset.saliency_path(i) for i in made.not_planned(sets.ids)}
                remedy = (
                    "Put maps of the images' sizes there, or remove "
                    f"{saliency.name} from --benchmark_sals."
                )
                problems += map_problems(dataset, paths, f"Saliency map ({saliency.name})", remedy)
        return problems

    def warnings(self, run: "Run", ids: Sequence[str]) -> list[str]:
        """CAMs of classes that the images' tags lack."""
        sets = Sets(run)
        of_sets = (CAMS.made(sets.run_of(cams=cams)) for cams in sets.cams)
        return [text for made in of_sets for text in made.warnings(sets.ids)]

    def make(
        self,
        work: Work,
        *,
        benchmark_act_thres: tuple[float, ...],
        benchmark_sal_thres: tuple[float, ...],
    ) -> dict[str, Any]:
        """Score every pair of sets at all thresholds; write tables, pictures and the rest.

        Counts are kept in `<out_dir>/benchmark/counts`; a run that was stopped goes on from there.

        Returns:
            images counted in this run, the number of pairs and of cells, and the best cell in
            words.
        """
        from step.benchmark.compare import compare

        return compare(Sets(work.run), benchmark_act_thres, benchmark_sal_thres)

    def describe(self, result: Mapping[str, Any]) -> str:
        return result["summary"]

    def place(self, run: "Run") -> Path:
        return Sets(run).folder


def _cam_problems(sets: Sets, cams: MapSet) -> list[str]:
    """Images without CAMs, of an unclear format or misnumbered; the maps show as they are read."""
    try:
        missing = sets.missing_cams(cams)
        if not missing:
            problems = CAMS.made(sets.run_of(cams=cams)).misread(sets.ids)
            return [cams.with_own_flag(problem) for problem in problems]
    except UserError as error:
        return [error.message]
    evaluated = set(sets.evaluated)
    remedy = "Put them there, or remove the set from --benchmark_cams"
    if not evaluated & set(missing):
        remedy += f", or pass {FLAG_OF_CHOICE}"
    return [f"{cams.folder} lacks the CAMs of {some_images(missing)}. {remedy}."]
