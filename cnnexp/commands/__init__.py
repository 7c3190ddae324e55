"""The commands other than `train`: a module each, with `main(argv) -> exit code`; arguments.py is what they share."""
