"""The steps of the pipeline: read, call, write. One file a flag."""
