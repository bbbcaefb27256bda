"""Shows: the paper's Table 1 in small (specs/library/table1_small.yaml), at most 90 minutes on two cores.

10,000 CIFAR-10 images, ResNet8, training on 2 % and 5 % augmented subsets: none, random, max-loss, and the coreset
with its weights and without, three seeds. Runs the sweep, or goes on with it, and keeps its table; `--stored` only
keeps the table of what is finished.

    python benchmarks/table1_small.py --root data/cifar10 [--storage runs] [--stored]
    python benchmarks/table1_small.py … --variant NAME --set FIELD=VALUE …        the same with other fields
"""

import sys

from library_sweep import run_and_keep

if __name__ == "__main__":
    sys.exit(run_and_keep("table1_small", __doc__))
