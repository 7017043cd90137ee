"""Where the project, its recorded outputs and the shared data lie."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
SHARED = Path(os.environ.get("SBE_SHARED", ROOT.parent / "shared"))
