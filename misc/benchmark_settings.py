"""The settings of WSSS-BED's masks and benchmark: part of the config, in a file of their own."""

from dataclasses import dataclass
from pathlib import Path

from misc.settings import setting

BENCH = "WSSS-BED: its masks, and comparing sets of CAMs and saliency maps"


@dataclass(frozen=True)
class BenchmarkSettings:
    """What `make_wsss_bed_masks` and `benchmark` go by."""

    wsss_bed_act_thres: float = setting(
        0.1, BENCH, "activation from which a class counts in the masks", at_least=0, at_most=1
    )
    wsss_bed_sal_thres: float = setting(
        0.2, BENCH, "saliency above which a pixel is salient; 0: soft", at_least=0, at_most=1
    )
    wsss_bed_ignore: bool = setting(
        True, BENCH, "label salient pixels without an activated class 255 = ignore"
    )
    wsss_bed_out_dir: Path | None = setting(None, BENCH, "masks (default: below --out_dir)")
    benchmark_cams: tuple[str, ...] = setting(
        (),
        BENCH,
        "CAM sets: name=folder,... or name=folder:format,... (default: own=the --cam_out_dir)",
    )
    benchmark_sals: tuple[str, ...] = setting(
        (), BENCH, "saliency sets: name=folder,... (default: own=the --sal_root)"
    )
    benchmark_act_thres: tuple[float, ...] = setting(
        tuple(i / 20 for i in range(20)),
        BENCH,
        "activation thresholds: numbers, or first:last:count",
        at_least=0,
        at_most=1,
    )
    benchmark_sal_thres: tuple[float, ...] = setting(
        (0.0, 0.2, 0.4, 0.6, 0.8),
        BENCH,
        "saliency thresholds: numbers, or first:last:count; 0 is soft",
        at_least=0,
        at_most=1,
    )
    benchmark_choose_images: int = setting(
        100,
        BENCH,
        "images of --train_list to choose thresholds on, for the loss against the evaluated ones",
        at_least=0,
    )
    benchmark_sbe: bool = setting(
        False, BENCH, "train and score SBE, and BES, on every pair of sets before `benchmark`"
    )
    benchmark_seeds: tuple[int, ...] = setting(
        (), BENCH, "seeds of --benchmark_sbe, such as 0,1,2 (default: --seed)", at_least=0
    )
