"""What the steps of the segmentation network share: its results, its start, its notes."""
