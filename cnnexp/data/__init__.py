"""Images: sources that prepare them once, and batches that are a function of the step."""
