import json
from pathlib import Path

import numpy as np
from PIL import Image

from misc.cam_files import Cams, write_irn
from tests.benchmarks import cam_storage

SIZE = (40, 56)


def test_smaller_files_change_few_pixels_and_take_less_room(tmp_path: Path) -> None:
    (tmp_path / "cam").mkdir()
    for name in ("a", "b"):
        ramp = np.linspace(0, 1, SIZE[1], dtype=np.float32)
        high_res = np.stack([np.tile(ramp, (SIZE[0], 1)), np.tile(ramp[::-1], (SIZE[0], 1))])
        cams = Cams(np.array([1, 7]), high_res[:, ::4, ::4].copy(), high_res)
        with open(tmp_path / "cam" / f"{name}.npy", "wb") as file:
            write_irn(file, cams)
        Image.new("RGB", SIZE[::-1]).save(tmp_path / f"{name}.jpg")
    out = tmp_path / "out.json"
    flags = ["--count", "2", "--json", str(out)]
    cam_storage.main([str(tmp_path / "cam"), str(tmp_path), *flags])
    full, half, small, both = json.loads(out.read_text())["rows"]
    assert full["percent_changed"] == 0
    assert half["percent_changed"] <= half["percent_changed_at_most"] < 2
    assert 0 < small["percent_changed"] < 20
    sizes = [row["MB_an_image"] for row in (full, half, small, both)]
    assert sizes == sorted(sizes, reverse=True)
