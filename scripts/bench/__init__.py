"""cnnexp measured against rivals: the rows of docs/performance.md. Run: python scripts/benchmark.py --help."""
