"""Shows: the paper's Table 5 in small (specs/library/table5_small.yaml), at most 90 minutes on two cores.

5,000 CIFAR-10 images with half of their labels wrong, ResNet8, training on everything and on one strongly augmented
copy of 50 % subsets: the five strategies, three seeds. Runs the sweep, or goes on with it, and keeps its table;
`--stored` only keeps the table of what is finished.

    python benchmarks/table5_small.py --root data/cifar10 [--storage runs] [--stored]
    python benchmarks/table5_small.py … --variant NAME --set FIELD=VALUE …        the same with other fields
"""

import sys

from library_sweep import run_and_keep

if __name__ == "__main__":
    sys.exit(run_and_keep("table5_small", __doc__))
