"""The table itself: its size, that its lines differ, and what they leave out."""

import re
from collections import Counter

from run_sample import make_parser
from tests.faults.probe import DONE, REFUSED
from tests.faults.table import TABLE
from tests.helpers.paths import ROOT

README = ROOT / "tests" / "faults" / "README.md"
# Every word is an answer to these, or a name that no rule can refuse.
ANY_VALUE = {
    "--help", "--plan", "--saliency_supervision", "--test_list", "--boundary_labels",
    "--sem_seg_ignore", "--seg_balanced", "--seg_test_flip", "--seg_crf",
}  # fmt: skip


def test_no_line_is_there_twice() -> None:
    names = Counter(each.name for each in TABLE)
    assert [name for name, count in names.items() if count > 1] == []
    assert len(TABLE) >= 250


def test_every_line_says_what_must_be_said() -> None:
    for each in TABLE:
        assert each.words, each.name
        assert each.status in (DONE, REFUSED), each.name


def test_every_tool_is_probed() -> None:
    doors = [
        path
        for folder in ("misc", "net", "step", "voc12")
        for path in (ROOT / folder).rglob("*.py")
        if '__name__ == "__main__"' in path.read_text()
    ]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in doors}
    tools = {name.removesuffix(".__main__") for name in modules}
    assert tools - {each.tool for each in TABLE} == set()


def test_every_flag_is_probed() -> None:
    typed = " ".join(each.flags for each in TABLE).replace("=", " ").split()
    named = {word for word in typed if word.startswith("--")}
    flags = [set(action.option_strings) for action in make_parser()._actions]
    left_out = [names for names in flags if not names & (named | ANY_VALUE)]
    passes = [names for names in left_out if any(name.endswith("_pass") for name in names)]
    assert [names for names in left_out if names not in passes] == []


def test_the_readme_counts_as_the_table_does() -> None:
    rows = re.findall(r"^\| ([a-z ]+) \| (\d+) \|$", README.read_text(), re.MULTILINE)
    refused = sum(each.status == REFUSED for each in TABLE)
    assert {name: int(count) for name, count in rows} == {
        "probes": len(TABLE),
        "refusals": refused,
        "warnings": len(TABLE) - refused,
        "not mended yet": sum(bool(each.pending) for each in TABLE),
        "tracebacks": 0,
        "silent": 0,
        "losses": 0,
        "hangs": 0,
    }
