"""`python -m cnnexp`, the same as `cnnexp`."""

from cnnexp.cli import entry

if __name__ == "__main__":
    entry()
