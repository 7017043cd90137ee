"""A dataset in VOC layout made from COCO's annotations."""
