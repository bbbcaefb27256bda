"""Shows: the five strategies on CIFAR-10 in small (specs/library/cifar10_small.yaml), three seeds.

Runs the sweep, or goes on with it, and keeps its table; `--stored` only keeps the table of what is finished.

    python benchmarks/cifar10_small.py --root data/cifar10 [--storage runs] [--stored]
"""

import sys

from library_sweep import run_and_keep

if __name__ == "__main__":
    sys.exit(run_and_keep("cifar10_small", __doc__))
