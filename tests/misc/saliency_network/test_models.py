from pathlib import Path

import pytest

from misc.errors import UserError
from misc.saliency_network import PUBLISHED, Recipe, find_model
from run_sample import make_parser


def test_the_published_networks() -> None:
    assert {name: each.url.rsplit("/", 1)[1] for name, each in PUBLISHED.items()} == {
        "u2netp": "u2netp.onnx",
        "silueta": "silueta.onnx",
        "u2net": "u2net.onnx",
        "isnet": "isnet-general-use.onnx",
    }
    assert PUBLISHED["u2net"].url == (
        "https://github.com/danielgatis/rembg/releases/download/v0.0.0/u2net.onnx"
    )
    assert all(len(each.md5) == 32 for each in PUBLISHED.values())
    assert len({each.md5 for each in PUBLISHED.values()}) == 4
    assert all("trained with pixel masks" in each.supervision for each in PUBLISHED.values())


def test_their_recipes() -> None:
    imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert PUBLISHED["u2netp"].recipe == Recipe(320, *imagenet, by_maximum=True)
    assert PUBLISHED["isnet"].recipe == Recipe(1024, (0.5,) * 3, (1,) * 3, by_maximum=True)
    assert Recipe() == Recipe(0, *imagenet, by_maximum=False)


def test_the_help_names_them() -> None:
    (action,) = (each for each in make_parser()._actions if each.dest == "saliency_model")
    assert all(name in (action.help or "") for name in PUBLISHED)


def test_a_name_is_known_before_there_is_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = find_model("u2net")
    assert model.path == tmp_path / "hub" / "checkpoints" / "u2net.onnx"
    assert not model.path.exists()
    assert model.key == PUBLISHED["u2net"].md5
    with pytest.raises(UserError, match=r"--saliency_model u2nett: no such file. Pass u2netp, "):
        find_model("u2nett")


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("one.onnx", "u2net.onnx", "other.onnx"))
    one.write_bytes(b"abc")
    same.write_bytes(b"abc")
    other.write_bytes(b"abd")
    assert find_model(str(one)).key == find_model(str(same)).key != find_model(str(other)).key
    assert find_model(str(same)).published is None
    assert find_model(str(one)).key == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # SHA-256 of abc
    )
