"""Show how probes end: `python -m tests.faults WORD...` runs those with one of the words."""

import sys

from tests.faults.probe import judge, open_bench
from tests.faults.table import TABLE

SHOWN = 1500  # characters


def main(words: list[str]) -> None:
    """Run the probes whose names have one of `words`, all without any; print what is wrong."""
    chosen = [each for each in TABLE if not words or any(word in each.name for word in words)]
    with open_bench() as bench:
        for each in chosen:
            with bench.copy() as here:
                each.damage(here)
                ending = bench.run(here, each.tool, each.arguments, **each.options)
            wrong = judge(each, ending)
            state = f"({each.pending} is at work on it) " * bool(each.pending)
            said = "; ".join(wrong) or "as the table says"
            sys.stdout.write(f"{each.name}: {state}{said} ({ending.seconds:.1f} s)\n")
            if wrong or words:
                sys.stdout.write(f"{ending.text[-SHOWN:]}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
