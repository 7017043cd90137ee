"""The dataset: names, files, tensors."""
