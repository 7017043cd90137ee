import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.cam_files import CamFolder
from tests.helpers.http_server import Served, serving
from voc12 import fetch_wsss_bed

CAM, SAL = "VOC2012_CAM", "VOC2012_PoolNet_DUTS"
CAM_PATH = f"releases/download/act_maps/{CAM}.zip"
SAL_PATH = f"releases/download/sal_maps/{SAL}.zip"


def archive(*names: str, method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as opened:
        for name in names:
            picture = io.BytesIO()
            Image.fromarray(np.full((30, 40), 9, np.uint8)).save(picture, "PNG")
            opened.writestr(name, picture.getvalue())
    return file.getvalue()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("misc.download.time.sleep", lambda _: None)
    files = {
        CAM_PATH: archive(f"{CAM}/2007_000032_0.png", f"{CAM}/2007_000032_14.png"),
        SAL_PATH: archive("2007_000032.png"),
    }
    with serving(Served(files)) as server:
        yield server


def main(served: Served, folder: Path, *names: str) -> int:
    return fetch_wsss_bed.main([*names, "--to", str(folder), "--base_url", f"{served.url}/"])


def test_sets_arrive_ready_for_use(served: Served, tmp_path: Path) -> None:
    assert main(served, tmp_path, CAM, SAL) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [CAM, SAL]
    cams = CamFolder(tmp_path / CAM, num_classes=20).read("2007_000032", (30, 40))
    assert cams.class_ids.tolist() == [1, 15]
    source = json.loads((tmp_path / SAL / "source.json").read_text())
    assert source == {
        "url": f"{served.url}/{SAL_PATH}",
        "bytes": len(served.files[SAL_PATH]),
        "sha256": hashlib.sha256(served.files[SAL_PATH]).hexdigest()[:16],
        "files": 1,
    }
    served.asked.clear()
    assert main(served, tmp_path, CAM, SAL) == 0
    assert served.asked == []


def test_a_server_that_fails_for_a_while(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served.drop_after, served.statuses = [100, 0], [503, 429]
    assert main(served, tmp_path, CAM) == 0
    assert len(served.asked) == 5
    assert "100 of" in caplog.text
    assert "503" in caplog.text
    assert (tmp_path / CAM / "2007_000032_14.png").exists()


def test_a_server_that_goes_on_failing(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served.statuses = [500] * 5
    assert main(served, tmp_path, CAM) == 2
    assert f"{served.url}/{CAM_PATH} cannot be downloaded: HTTP Error 500" in caplog.text
    assert list(tmp_path.iterdir()) == []
    assert main(served, tmp_path, CAM) == 0


def test_a_truncated_archive_is_thrown_away(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = served.files[CAM_PATH]
    served.files[CAM_PATH] = whole[:-100]
    assert main(served, tmp_path, CAM, SAL) == 2
    assert "is damaged" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == [SAL]  # the other is fetched all the same
    served.files[CAM_PATH] = whole
    assert main(served, tmp_path, CAM) == 0


def test_a_damaged_archive_of_another_packing_is_thrown_away(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = served.files[CAM_PATH]
    damaged = bytearray(archive(f"{CAM}/2007_000032_0.png", method=zipfile.ZIP_BZIP2))
    damaged[70:90] = bytes(20)
    served.files[CAM_PATH] = bytes(damaged)
    assert main(served, tmp_path, CAM) == 2
    assert "compresses 2007_000032_0.png with method 12" in caplog.text
    assert list(tmp_path.iterdir()) == []
    served.files[CAM_PATH] = whole
    assert main(served, tmp_path, CAM) == 0


@pytest.mark.parametrize("lie", [-100, 100])
def test_a_server_that_lies_about_the_length(
    served: Served, tmp_path: Path, lie: int, caplog: pytest.LogCaptureFixture
) -> None:
    served.length = len(served.files[CAM_PATH]) + lie
    assert main(served, tmp_path, CAM) == 2
    assert ("is damaged" if lie < 0 else "bytes arrived") in caplog.text
    assert not (tmp_path / CAM).exists()
    served.length = None
    assert main(served, tmp_path, CAM) == 0


def test_a_hostile_archive_writes_nothing_outside(served: Served, tmp_path: Path) -> None:
    served.files[CAM_PATH] = archive("2007_000032_0.png", "../../2007_000032_1.png")
    folder = tmp_path / "a" / "b"
    assert main(served, folder, CAM) == 0
    assert {path.parent for path in tmp_path.rglob("*.png")} == {folder / CAM}


def test_a_set_the_server_has_not(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(served, tmp_path, "VOC2012_MOVE") == 2
    assert "404" in caplog.text
    assert len(served.asked) == 1


def test_an_unknown_name_is_refused_with_what_is_close(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(served, tmp_path, "VOC2012_PoolNet_DUT", CAM) == 2
    assert "VOC2012_PoolNet_DUTS" in caplog.text
    assert served.asked == []


def test_list_prints_every_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch_wsss_bed.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    kinds = [line.split()[0] for line in lines]
    assert (kinds.count("activation"), kinds.count("saliency")) == (87, 43)
    assert "activation VOC2012_EPS_PoolNet_DUTS" in lines
    assert "saliency COCO2014_VST_MSRA_HKU" in lines


def test_the_address_is_the_projects_own() -> None:
    assert fetch_wsss_bed.BASE_URL == "https://github.com/clovaai/WSSS-BED"


def test_names_or_folder_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        fetch_wsss_bed.main([CAM])
    assert caught.value.code == 2
    assert "--to" in capsys.readouterr().err
