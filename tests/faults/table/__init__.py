"""The table of all probes, by what is damaged."""

from tests.faults.probe import Probe
from tests.faults.table import cams, flags, pictures, results, tags, tools

TABLE: tuple[Probe, ...] = (
    *pictures.PROBES,
    *tags.PROBES,
    *cams.PROBES,
    *results.PROBES,
    *flags.PROBES,
    *tools.PROBES,
)
