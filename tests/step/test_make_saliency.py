"""Datasets without saliency maps: a network makes them, through the command line."""

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import run_sample
from misc.images import read_image
from misc.saliency_network import PUBLISHED, Recipe, SaliencyNetwork
from tests.helpers.drawn import SIZE, draw_boxes_dataset
from tests.helpers.http_server import Served, serving
from tests.helpers.onnx_models import brightness_model, leaking_model
from tests.helpers.sets import write_cam_set
from tests.helpers.tiny import Run, copy_run, run, states

CLASSES = ("mug", "spoon")
UNTAGGED = "photo 2"
TRAIN = [f"photo {number}" for number in range(6)]
LABELS = "--steps=make_saliency,make_boundary_label"
ALONE = "--steps=make_saliency"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of photographs and tags: six images are listed in train, two in val."""
    root = tmp_path_factory.mktemp("mugs") / "data"
    draw_boxes_dataset(root, CLASSES, [[1], [2], [], [1, 2], [2], [1], [1], [2]])
    shutil.rmtree(root / "Sal")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("models") / "bright.onnx", brightness_model())


@pytest.fixture(scope="module")
def flags(
    photographs: Path, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, ...]:
    """What makes maps, and boundary labels from these and from CAMs that are there."""
    cams = write_cam_set(photographs, tmp_path_factory.mktemp("sets") / "cams", blur=2, noise=0.1)
    return (
        "--saliency=make", f"--saliency_model={model}", LABELS, f"--cam_out_dir={cams}",
        "--cam_format=oaa_png",
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(
    photographs: Path, flags: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """Maps and boundary labels; look at them, or work on a `copy_run` of them."""
    return run(photographs, tmp_path_factory.mktemp("made") / "out", *flags, "--panels=2")


@pytest.fixture
def out_dir(made: Run, tmp_path: Path) -> Path:
    return copy_run(made.out_dir, tmp_path / "out")


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.mode == "L"
        return np.array(picture)


def entry(out_dir: Path) -> dict[str, Any]:
    return json.loads((out_dir / "scores.json").read_text())["make_saliency"]


def changed(before: dict[str, Any], out_dir: Path) -> set[str]:
    """Names of the images whose files were written again."""
    after = states(out_dir)
    assert before.keys() == after.keys()
    paths = (Path(name) for name, state in after.items() if before[name] != state)
    return {str(path) for path in paths if path.suffix == ".png"}


def test_maps_are_what_the_network_says_and_black_without_a_tag(
    made: Run, photographs: Path, model: Path
) -> None:
    assert made.status == 0, made.stderr
    folder = made.out_dir / "saliency"
    assert sorted(path.stem for path in folder.glob("*.png")) == TRAIN
    network = SaliencyNetwork(model, Recipe())
    for image_id in TRAIN:
        saliency = read(folder / f"{image_id}.png")
        assert saliency.shape == SIZE
        if image_id == UNTAGGED:
            assert not saliency.any()
        else:
            said = network.predict(read_image(photographs / "JPEGImages" / f"{image_id}.jpg"))
            np.testing.assert_array_equal(saliency, (said * 255).astype(np.uint8))
            assert 20 < saliency.min() < saliency.max() < 220  # as it was said: not stretched


def test_what_a_paper_has_to_say_is_said(made: Run, model: Path) -> None:
    assert "--saliency make sets --sal_bg_thres 0.1, since its maps are soft" in made.stderr
    assert "supervision: unknown: name it with --saliency_supervision TEXT" in made.stderr
    said = entry(made.out_dir)
    assert said["images"] == 6
    assert said["model"] == "bright.onnx"
    assert said["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert said["supervision"].startswith("unknown")
    labels = json.loads((made.out_dir / "boundary_label" / "settings.json").read_text())
    assert labels["settings"]["sal_bg_thres"] == 0.1


def test_the_same_command_keeps_all_and_takes_the_supervision_that_is_told_later(
    photographs: Path, flags: tuple[str, ...], out_dir: Path
) -> None:
    before = states(out_dir / "saliency")
    done = run(photographs, out_dir, *flags, "--saliency_supervision=brightness, no masks")
    assert done.status == 0, done.stderr
    assert "Nothing to do" in done.stderr
    assert states(out_dir / "saliency") == before
    assert entry(out_dir)["supervision"] == "brightness, no masks"
    assert entry(out_dir)["images"] == 6


def test_maps_that_are_gone_are_made_again_and_nothing_else(
    made: Run, photographs: Path, flags: tuple[str, ...], out_dir: Path
) -> None:
    gone = out_dir / "saliency" / "photo 1.png"
    gone.unlink()
    before = states(out_dir)
    planned = run(photographs, out_dir, *flags, "--plan")
    assert re.search(r"make_saliency +missing +1 of 6 missing +1", planned.stdout)
    assert re.search(r"make_boundary_label +current", planned.stdout)
    assert states(out_dir) == before
    assert run(photographs, out_dir, *flags).status == 0
    assert gone.read_bytes() == (made.out_dir / "saliency" / "photo 1.png").read_bytes()
    assert not changed(before | {"saliency/photo 1.png": states(out_dir)["saliency/photo 1.png"]},
                       out_dir)  # fmt: skip


def test_made_maps_are_the_same_as_files_of_ones_own(
    photographs: Path, flags: tuple[str, ...], out_dir: Path, tmp_path: Path
) -> None:
    moved = shutil.move(out_dir / "saliency", tmp_path / "Sal")
    before = states(out_dir)
    labels = "--steps=make_boundary_label", "--saliency=maps", f"--sal_root={moved}"
    done = run(photographs, out_dir, *flags, *labels, "--sal_bg_thres=0.1")
    assert done.status == 0, done.stderr
    assert re.search(r"make_boundary_label +current", done.stderr)
    assert not changed(before, out_dir)
    refused = run(photographs, out_dir, *flags, *labels)
    assert "--sal_bg_thres was 0.1, is 0" in refused.stderr


def test_another_network_makes_them_and_what_follows_stale(
    photographs: Path, flags: tuple[str, ...], out_dir: Path, tmp_path: Path
) -> None:
    other = write(tmp_path / "other.onnx", brightness_model(ends=["HardSigmoid"]))
    before = states(out_dir)
    refused = run(photographs, out_dir, *flags, f"--saliency_model={other}")
    assert refused.status == 2
    assert re.search(
        r"make_saliency: the saliency model changed \(--saliency_model was .*bright.onnx, is "
        r".*other.onnx\)", refused.stderr,
    )  # fmt: skip
    assert "make_boundary_label: the saliency maps follows make_saliency" in refused.stderr or (
        "make_boundary_label: follows make_saliency" in refused.stderr
    )
    assert states(out_dir) == before
    done = run(photographs, out_dir, *flags, f"--saliency_model={other}", "--overwrite")
    assert done.status == 0, done.stderr
    again = changed(before, out_dir)
    assert {f"saliency/{i}.png" for i in TRAIN} <= again
    assert {f"boundary_label/{i}.png" for i in TRAIN} <= again
    assert not any(name.startswith("cam_vis") for name in again)


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--saliency_model_size=24", "takes photographs of 32x24, not 24x24"),
        ("--saliency_model_mean=0.5,0.5,0.5", "--saliency_model_mean was unset, is 0.5,0.5,0.5"),
        ("--saliency_model_std=1,1,1", "--saliency_model_std was unset, is 1,1,1"),
        ("--saliency_model_white=max", "--saliency_model_white was auto, is max"),
        ("--saliency_model_mean=1,2", "must be three numbers, of red, green and blue"),
        ("--saliency_model_std=1,0,1", "must be between 1e-06 and 1000"),
    ],
)
def test_the_recipe_is_part_of_the_network(
    photographs: Path, flags: tuple[str, ...], out_dir: Path, flag: str, said: str
) -> None:
    refused = run(photographs, out_dir, *flags, flag)
    assert refused.status == 2
    assert said in refused.stderr


def test_a_recipe_that_says_what_is_usual_changes_nothing(
    photographs: Path, flags: tuple[str, ...], out_dir: Path
) -> None:
    usual = "--saliency_model_white=255", "--saliency_model_mean=0.485,0.456,0.406"
    done = run(photographs, out_dir, *flags, *usual)
    assert done.status == 0, done.stderr
    assert "Nothing to do" in done.stderr


def test_a_file_under_another_name_is_the_same_network(
    photographs: Path, flags: tuple[str, ...], out_dir: Path, model: Path, tmp_path: Path
) -> None:
    copy = shutil.copy(model, tmp_path / "copy.onnx")
    done = run(photographs, out_dir, *flags, f"--saliency_model={copy}")
    assert done.status == 0, done.stderr
    assert "Nothing to do" in done.stderr


def test_tags_decide_only_whether_there_is_an_object(
    photographs: Path, flags: tuple[str, ...], out_dir: Path, tmp_path: Path
) -> None:
    tags = (photographs / "tags.csv").read_text()
    other = tmp_path / "tags.csv"
    other.write_text(tags.replace("photo 0,mug", "photo 0,spoon").replace(
        "photo 1,spoon", "photo 1").replace("photo 2", "photo 2,mug"))  # fmt: skip
    plan = run(photographs, out_dir, *flags, ALONE, f"--tags_from={other}", "--plan")
    assert re.search(r"make_saliency +stale +the tags of 2 images changed +2", plan.stdout)
    before = states(out_dir)
    done = run(photographs, out_dir, *flags, ALONE, f"--tags_from={other}", "--overwrite")
    assert done.status == 0, done.stderr
    assert changed(before, out_dir) == {"saliency/photo 1.png", "saliency/photo 2.png"}
    assert not read(out_dir / "saliency" / "photo 1.png").any()
    assert read(out_dir / "saliency" / "photo 2.png").any()


def test_from_make_saliency_goes_on_with_what_runs_unasked(
    photographs: Path, flags: tuple[str, ...], out_dir: Path
) -> None:
    asked = [flag for flag in flags if not flag.startswith("--steps")]
    plan = run(photographs, out_dir, *asked, "--from=make_saliency", "--plan",
               "--eval_sem_seg_pass=no").stdout  # fmt: skip
    steps = [line.split()[0] for line in plan.splitlines()[2:] if line.strip()]
    assert steps[0] == "make_saliency"
    assert {"make_boundary_label", "train_bes", "make_sem_seg"} <= set(steps)
    assert not {"train_cam", "make_cam", "benchmark", "train_seg"} & set(steps)


def test_contact_sheets_show_them(
    photographs: Path, flags: tuple[str, ...], out_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []

    def note(tiles: list[tuple[str, np.ndarray]], _legends: object) -> np.ndarray:
        titles.extend(title for title, _ in tiles)
        shown = dict(tiles)["saliency (made)"]
        expected = read(out_dir / "saliency" / f"{titles[0]}.png")
        np.testing.assert_array_equal(shown[:, :, 0], expected)
        return shown

    monkeypatch.setattr("step.common.panels.make_panel", note)
    shutil.rmtree(out_dir / "panels")
    assert run(photographs, out_dir, *flags, "--panels=1").status == 0
    assert titles[:2] == ["photo 0", "saliency (made)"]
    assert "boundary label" in titles


def test_made_maps_are_a_set_of_the_benchmark(
    photographs: Path, flags: tuple[str, ...], tmp_path: Path
) -> None:
    asked = "--steps=make_saliency,benchmark", "--benchmark_act_thres=0.1,0.5"
    sal = "--benchmark_sal_thres=0.2,0.5", "--benchmark_choose_images=0"
    done = run(photographs, tmp_path / "out", *flags, *asked, *sal)
    assert done.status == 0, done.stderr
    cells = (tmp_path / "out" / "benchmark" / "counts" / "own").glob("*.npz")
    assert {path.stem for path in cells} == {"own", "none"}


def test_maps_alone_without_anything_that_reads_them(
    photographs: Path, model: Path, tmp_path: Path
) -> None:
    where = tmp_path / "Sal"
    done = run(photographs, tmp_path / "out", ALONE, f"--saliency_model={model}",
               f"--saliency_out_dir={where}", "--sal_root", str(where))  # fmt: skip
    assert done.status == 0, done.stderr
    assert len(list(where.glob("*.png"))) == 6
    assert "--sal_bg_thres" not in done.stderr


def test_a_threshold_that_was_given_stays(
    photographs: Path, flags: tuple[str, ...], tmp_path: Path
) -> None:
    plan = run(photographs, tmp_path / "out", *flags, "--sal_bg_thres=0.3", "--plan")
    assert plan.status == 0
    assert "--sal_bg_thres" not in plan.stderr


def test_without_the_step_missing_maps_name_it(
    photographs: Path, flags: tuple[str, ...], tmp_path: Path
) -> None:
    steps = "--steps=make_boundary_label"
    refused = run(photographs, tmp_path / "out", *flags, steps)
    assert refused.status == 2
    assert "lacks the files of 6 images (first: photo 0). Run make_saliency" in refused.stderr
    refused = run(photographs, tmp_path / "out", *flags, steps, "--saliency=maps")
    assert "have maps made by --saliency make" in refused.stderr


def test_maps_are_either_made_or_read(
    photographs: Path, flags: tuple[str, ...], tmp_path: Path
) -> None:
    refused = run(photographs, tmp_path / "out", *flags, "--sal_root=maps")
    assert refused.status == 2
    assert "--sal_root maps: --saliency make makes maps instead of reading any" in refused.stderr
    assert "or pass --saliency_out_dir maps to have them made there" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_the_demo_draws_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo = ["--demo", "--saliency=make", f"--out_dir={tmp_path / 'out'}"]
    assert run_sample.main(demo) == 2
    assert "leave out --saliency make, or --demo" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


BAD_MODELS: dict[str, tuple[bytes | None, str]] = {
    "no file at all": (None, "no such file. Pass u2netp, silueta, u2net, isnet, or an ONNX file"),
    "words": (b"not a network", "is not an intact ONNX file"),
    "nothing": (b"", "is not an intact ONNX file"),
    "cut off": (brightness_model()[:-40], "is not an intact ONNX file"),
    "a graph that makes no sense": (brightness_model(ends=["None such"]), "cannot run it"),
    "weights elsewhere": (
        leaking_model("secret", in_a_node=False), "Export the network into a single file",
    ),
    "a number elsewhere": (
        leaking_model("secret", in_a_node=True), "Export the network into a single file",
    ),
    "five channels": (
        brightness_model((1, 5, 24, 32)), "its input is tensor(float) [1, 5, 24, 32]",
    ),
    "four at once": (brightness_model((4, 3, 24, 32)), "takes 4 photographs at once"),
    "two maps": (
        brightness_model(channels=2), "its first output is float32 (1, 2, 24, 32), not one map",
    ),
    "logits": (brightness_model(ends=["Neg"]), "export the network with a sigmoid at its end"),
    "NaN": (brightness_model(ends=["Neg", "Log"]), "its output is nan to nan, not 0 to 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_MODELS)
def test_what_is_no_saliency_network_is_refused_before_anything_is_made(
    photographs: Path,
    flags: tuple[str, ...],
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content, said = BAD_MODELS[name]
    monkeypatch.chdir(tmp_path)
    np.full(24 * 32, 0.5, "<f4").tofile(tmp_path / "secret")
    path = tmp_path / "bad.onnx"
    if content is not None:
        write(path, content)
    refused = run(photographs, tmp_path / "out", *flags, f"--saliency_model={path}")
    assert refused.status == 2
    assert said in refused.stderr
    assert str(path) in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "out").exists()


def test_logits_that_show_only_on_a_photograph_stop_the_run(
    photographs: Path, flags: tuple[str, ...], tmp_path: Path
) -> None:
    """What was made stays; a gray picture is 0.2 to this network, and a darker pixel less."""
    path = write(tmp_path / "logits.onnx", brightness_model(ends=["Identity"]))
    stopped = run(photographs, tmp_path / "out", *flags, f"--saliency_model={path}")
    assert stopped.status == 2
    assert "export the network with a sigmoid at its end" in stopped.stderr
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_without_onnxruntime(
    photographs: Path, flags: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refused = run(photographs, tmp_path / "out", *flags)
    assert refused.status == 2
    assert "pip install onnxruntime" in refused.stderr
    assert run(photographs, tmp_path / "out", *flags, "--saliency=none", "--plan").status == 0


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Served]:
    """A server that has u2netp, or what stands for it; nothing is downloaded yet."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("misc.download.time.sleep", lambda _: None)
    content = brightness_model((1, 3, 320, 320))
    monkeypatch.setitem(
        PUBLISHED, "u2netp", replace(PUBLISHED["u2netp"], md5=hashlib.md5(content).hexdigest())
    )
    with serving(Served({"u2netp.onnx": content})) as server:
        monkeypatch.setattr("misc.saliency_network.models.BASE_URL", server.url)
        yield server


@pytest.fixture
def by_name(flags: tuple[str, ...]) -> tuple[str, ...]:
    """Maps alone, by the network that is the default."""
    return (*(flag for flag in flags if not flag.startswith("--saliency_model")), ALONE)


def test_a_published_network_is_downloaded_once(
    photographs: Path, by_name: tuple[str, ...], tmp_path: Path, published: Served
) -> None:
    plan = run(photographs, tmp_path / "out", *by_name, "--plan")
    assert re.search(r"make_saliency +missing", plan.stdout)
    assert not published.asked
    done = run(photographs, tmp_path / "out", *by_name)
    assert done.status == 0, done.stderr
    assert published.asked == ["/u2netp.onnx"]
    said = entry(tmp_path / "out")
    sha256 = hashlib.sha256(published.files["u2netp.onnx"]).hexdigest()
    assert f"u2netp.onnx: sha256 {sha256}" in done.stderr
    assert said["supervision"] == "U-2-Net (small), trained with pixel masks of DUTS-TR"
    assert (said["model"], said["sha256"]) == ("u2netp.onnx", sha256)
    # The plan knows what is published, also where the file is not.
    shutil.rmtree(tmp_path / "torch")
    again = run(photographs, tmp_path / "out", *by_name)
    assert "Nothing to do" in again.stderr
    assert published.asked == ["/u2netp.onnx"]
    # A file of that content is that network.
    file = write(tmp_path / "mine.onnx", published.files["u2netp.onnx"])
    assert "Nothing to do" in run(
        photographs, tmp_path / "out", *by_name, f"--saliency_model={file}").stderr  # fmt: skip


def test_without_a_network_the_way_by_hand_is_said_and_works(
    photographs: Path, by_name: tuple[str, ...], tmp_path: Path, published: Served
) -> None:
    content = published.files.pop("u2netp.onnx")
    refused = run(photographs, tmp_path / "out", *by_name)
    assert refused.status == 2
    place = tmp_path / "torch" / "hub" / "checkpoints"
    assert f"{published.url}/u2netp.onnx cannot be downloaded: HTTP Error 404" in refused.stderr
    assert f"put it into {place}, or name it, or another network, by --saliency_model" in (
        refused.stderr
    )
    assert not (tmp_path / "out").exists()
    write(place / "u2netp.onnx", content)
    done = run(photographs, tmp_path / "out", *by_name)
    assert done.status == 0, done.stderr


def test_what_is_not_what_was_published_is_not_used(
    photographs: Path, by_name: tuple[str, ...], tmp_path: Path, published: Served
) -> None:
    published.files["u2netp.onnx"] += b"\0"
    refused = run(photographs, tmp_path / "out", *by_name)
    assert refused.status == 2
    assert f"{published.url}/u2netp.onnx has changed: its md5 is" in refused.stderr
    place = tmp_path / "torch" / "hub" / "checkpoints" / "u2netp.onnx"
    assert not place.exists()
    write(place, published.files["u2netp.onnx"])
    refused = run(photographs, tmp_path / "out", *by_name)
    assert f"{place} is not the published u2netp.onnx" in refused.stderr
    assert "Delete it to have it downloaded again" in refused.stderr
    assert not (tmp_path / "out").exists()
