"""One page that shows a run: what was made, how good it is, where it fails."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from step.graph import ShowingStep, Work

if TYPE_CHECKING:
    from step.run import Run


class Report(ShowingStep):
    """`<out_dir>/report/index.html`, of whatever the run has."""

    help = "one page that shows the run"
    ends_every_run = True

    def images(self, run: "Run") -> list[str]:
        """The scored images; those with masks where nothing is scored."""
        from step.report.gallery import shown_ids

        return shown_ids(run)[0]

    def problems(self, run: "Run", todo: Sequence[str]) -> list[str]:
        from step.report.page import folder_problems

        return folder_problems(self.place(run))

    def place(self, run: "Run") -> Path:
        return run.config.out_dir / "report"

    def make(self, work: Work) -> dict[str, Any]:
        """Make what is missing of the small pictures, and write the page.

        Returns:
            images, small pictures that were made, and the page's path.
        """
        from step.report.page import write_report

        return write_report(work.run, work.ids, self.place(work.run))

    def describe(self, result: Mapping[str, Any]) -> str:
        return f"{result['page']}, {result['images']} images, {result['made']} pictures made"
