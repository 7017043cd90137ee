"""The networks of a run, built from its settings and filled with weights."""

from pathlib import Path

from misc.checkpoint import load_weights
from net.backbone import (
    Backbone,
    build_backbone,
    fetch_imagenet_weights,
    load_backbone_weights,
)
from net.boundary import BoundaryNetwork
from net.cam import CamClassifier
from net.deeplab_v2 import DeepLabV2
from step.context import Context


def build_classifier(context: Context, *, load: bool) -> CamClassifier:
    """The classifier: with `load` its trained weights, else those it starts from.

    Raises:
        UserError: if the weights cannot be had or do not fit.
    """
    config = context.config
    from_scratch = config.backbone_weights == "none"
    backbone = build_backbone(config.backbone, fixed_batch_norm=not from_scratch)
    if not load:
        _load_pretrained(context, backbone)
    classifier = CamClassifier(
        backbone,
        context.dataset.num_classes,
        train_from=0 if from_scratch else config.cam_train_from,
    )
    if load:
        load_weights(classifier, context.cam_weights.path)
    return classifier


def build_boundary_network(context: Context, *, load: bool) -> BoundaryNetwork:
    """The boundary network: with `load` its trained weights, else those it starts from.

    Raises:
        UserError: if the weights cannot be had or do not fit.
    """
    config = context.config
    if load or config.bes_backbone == "pretrained":
        backbone = build_backbone(config.backbone, fixed_batch_norm=True)
    else:
        backbone = build_classifier(context, load=True).backbone
    if not load and config.bes_backbone == "pretrained":
        _load_pretrained(context, backbone)
    network = BoundaryNetwork(backbone)
    if load:
        load_weights(network, context.bes_weights.path)
    return network


def _load_pretrained(context: Context, backbone: Backbone) -> None:
    """Fill the backbone; every process comes here, one of each machine downloads."""
    weights = context.config.backbone_weights
    if weights == "imagenet":
        context.runtime.once_on_each_machine(lambda: fetch_imagenet_weights(backbone.name))
    load_backbone_weights(backbone, weights)


def build_segmentation_network(context: Context, weights: Path | None = None) -> DeepLabV2:
    """The segmentation network: with the trained `weights`, else as it is before any are loaded.

    Raises:
        UserError: if the weights do not fit.
    """
    config = context.config
    from_scratch = weights is None and config.seg_init == "none"
    backbone = build_backbone(config.seg_backbone, fixed_batch_norm=not from_scratch)
    network = DeepLabV2(backbone, context.dataset.num_classes + 1)
    if weights is not None:
        load_weights(network, weights)
    return network
