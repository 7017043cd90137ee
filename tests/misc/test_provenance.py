import subprocess
from pathlib import Path

from misc.provenance import cpu_name, package_versions, source_version


def git(root: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(
        ["git", "-C", str(root), *who, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_commit_of_a_checkout_and_whether_its_files_were_changed(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "new.py").write_text("1\n")
    assert source_version(tmp_path) == commit
    (tmp_path / "code.py").write_text("2\n")
    assert source_version(tmp_path) == f"{commit}+"


def test_a_copy_within_another_checkout_has_its_version(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    (tmp_path / "copy").mkdir()
    assert source_version(tmp_path / "copy") == "unknown"
    (tmp_path / "copy" / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    assert source_version(tmp_path / "copy") == "1.2.3"


def test_packages_that_are_not_installed_have_no_version() -> None:
    versions = package_versions(("numpy", "no-such-package"))
    assert list(versions) == ["python", "numpy", "no-such-package"]
    assert versions["no-such-package"] is None
    assert versions["numpy"]


def test_the_processor_has_a_name() -> None:
    assert cpu_name()
