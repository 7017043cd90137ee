"""What made a result besides its settings: the code, the packages and the machine."""

import importlib.metadata
import platform
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GIT_SECONDS = 10


def source_version(root: Path = ROOT) -> str:
    """The commit of the source tree at `root`, "+" after it if its files were changed since.

    The version that pyproject.toml names where the tree is no git checkout, and "unknown" without.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    if top and Path(top).resolve() == root and (commit := _git(root, "rev-parse", "HEAD")):
        return commit + "+" * bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    about = root / "pyproject.toml"
    found = re.search(r'^version = "(.+)"$', about.read_text() if about.exists() else "", re.M)
    return found[1] if found else "unknown"


def _git(root: Path, *words: str) -> str:
    """What git says; "" where it fails, or is not installed."""
    command = ["git", "-C", str(root), *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=GIT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def package_versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Versions of Python and of these packages; None for what is not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def cpu_name() -> str:
    """Name of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
