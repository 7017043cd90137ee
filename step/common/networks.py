"""Networks, built from the settings of a run and filled with weights."""

from typing import TYPE_CHECKING

from misc.weights import load_weights
from net.backbone import Backbone, build_backbone, fetch_imagenet_weights, load_backbone_weights
from net.boundary import BoundaryNetwork
from net.cam import CamClassifier
from net.deeplab_v2 import DeepLabV2
from step.artefacts import BES_WEIGHTS, CAM_WEIGHTS
from step.graph import Weights

if TYPE_CHECKING:
    from step.run import Run


def trained_classifier(run: "Run", backbone: str) -> CamClassifier:
    """The classifier with its trained weights.

    Raises:
        UserError: if the weights do not fit.
    """
    network = build_backbone(backbone, fixed_batch_norm=True)
    classifier = CamClassifier(network, run.dataset.num_classes)
    load_weights(classifier, CAM_WEIGHTS.file(run).path, remedy=CAM_WEIGHTS.remedy)
    return classifier


def trained_boundary_network(run: "Run", backbone: str) -> BoundaryNetwork:
    """The boundary network with its trained weights.

    Raises:
        UserError: if the weights do not fit.
    """
    network = BoundaryNetwork(build_backbone(backbone, fixed_batch_norm=True))
    load_weights(network, BES_WEIGHTS.file(run).path, remedy=BES_WEIGHTS.remedy)
    return network


def pretrained_backbone(run: "Run", name: str) -> Backbone:
    """A backbone to start from, as `--backbone_weights` says.

    Every process comes here; one of each machine downloads.

    Raises:
        UserError: if the weights cannot be obtained or do not fit.
    """
    if run.config.backbone_weights == "imagenet":
        run.runtime.once_on_each_machine(lambda: fetch_imagenet_weights(name))
    return loaded_backbone(run, name)


def loaded_backbone(run: "Run", name: str) -> Backbone:
    """The same in this process alone, which downloads what is not there yet.

    Raises:
        UserError: if the weights cannot be obtained or do not fit.
    """
    weights = run.config.backbone_weights
    backbone = build_backbone(name, fixed_batch_norm=weights != "none")
    load_backbone_weights(backbone, weights)
    return backbone


def build_segmentation_network(
    run: "Run", backbone: str, *, from_scratch: bool = False
) -> DeepLabV2:
    """The segmentation network as it is before any weights are loaded."""
    return DeepLabV2(
        build_backbone(backbone, fixed_batch_norm=not from_scratch), run.dataset.num_classes + 1
    )


def trained_segmentation_network(run: "Run", backbone: str, weights: Weights) -> DeepLabV2:
    """The segmentation network with one of its trained weights.

    Raises:
        UserError: if the weights do not fit.
    """
    network = build_segmentation_network(run, backbone)
    load_weights(network, weights.path(run), remedy=weights.remedy)
    return network
