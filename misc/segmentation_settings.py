"""The settings of the segmentation network: part of the config, in a file of their own."""

from dataclasses import dataclass
from pathlib import Path

from misc.settings import setting

SEG = "segmentation network (DeepLab-v2)"
SEG_BACKBONES = ("resnet18", "resnet50", "resnet101", "squeezenet1_0")


@dataclass(frozen=True)
class SegmentationSettings:
    """What `train_seg`, `make_seg` and `eval_seg` go by; the defaults are the usual protocol's."""

    seg_backbone: str = setting("resnet101", SEG, "network of features", SEG_BACKBONES)
    seg_init: str = setting(
        "imagenet",
        SEG,
        "start: imagenet, none (random), cam (the classifier's backbone), or a file of "
        "torchvision's, of ours, of IRN's, or of deeplab-pytorch's names (COCO-pretrained)",
    )
    seg_label_dir: str = setting(
        "pseudo",
        SEG,
        "masks to learn from: pseudo (--sem_seg_out_dir after the CRF), gt (the exact ones), or a "
        "folder of <id>.png or <id>_crf.png",
    )
    seg_seeds: tuple[int, ...] = setting(
        (), SEG, "train once for each of these seeds, such as 0,1,2 (default: --seed)", at_least=0
    )
    seg_iters: int = setting(20_000, SEG, "updates of the weights", at_least=1)
    seg_batch_size: int = setting(5, SEG, "images a batch, over all processes", at_least=1)
    seg_accumulation: int = setting(2, SEG, "batches an update", at_least=1)
    seg_crop: int = setting(321, SEG, "crop in pixels", at_least=1)
    seg_rescale: tuple[float, ...] = setting(
        (0.5, 0.75, 1.0, 1.25, 1.5), SEG, "scales that training images are drawn at"
    )
    seg_pyramid: tuple[float, ...] = setting(
        (1.0, 0.75, 0.5), SEG, "scales whose losses, and that of their maximum, are summed"
    )
    seg_learning_rate: float = setting(
        2.5e-4, SEG, "rate of the backbone; the head's weights 10, its biases 20 times", at_least=0
    )
    seg_weight_decay: float = setting(
        5e-4, SEG, "weight decay (none for the head's biases)", at_least=0
    )
    seg_momentum: float = setting(0.9, SEG, "SGD momentum", at_least=0)
    seg_balanced: bool = setting(
        False, SEG, "let background and foreground pixels weigh the same in the loss"
    )
    seg_val_every: int = setting(
        2000,
        SEG,
        "score --val_list after every so many updates and after the last, and keep the best "
        "weights too; 0: never, and keep the last alone",
        at_least=0,
    )
    make_seg_split: str = setting(
        "val", SEG, "images to segment and score: a list file or its name, such as test"
    )
    seg_test_scales: tuple[float, ...] = setting(
        (1.0, 0.75, 0.5), SEG, "scales that images are segmented at; the largest logit counts"
    )
    seg_test_flip: bool = setting(False, SEG, "segment mirror images too, and average the logits")
    seg_crf: bool = setting(True, SEG, "dense CRF on the softmax as well (COCO: usually not)")
    voc_submission: Path | None = setting(
        None, SEG, "archive (.tar.gz, .tgz, .zip) for PASCAL's server, checked; of make_seg's masks"
    )
