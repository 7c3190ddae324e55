"""The commands beside `train`: one module each, with `main(argv) -> exit code`."""
