"""The steps, in the order in which they run. A new one is a module here and a line in `STEPS`."""

STEPS = (
    "make_saliency",
    "train_cam",
    "make_cam",
    "eval_cam",
    "make_confident_regions",
    "make_boundary_label",
    "train_bes",
    "make_walk",
    "eval_walk",
    "make_sem_seg",
    "eval_sem_seg",
    "refine_masks",
    "eval_refined",
    "benchmark",
    "train_seg",
    "make_seg",
    "make_submission",
    "eval_seg",
    "report",
)
