"""Compare the runs of a study; the same as `cnnexp report`.

Run: python scripts/report.py outputs/STUDY
"""

import sys

from cnnexp.cli import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))
