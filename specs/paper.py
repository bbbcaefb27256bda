"""The tables and figures of the paper that a sweep can reproduce."""

from typing import Literal

# Each is the name of the library spec with the paper's set-up, and of its published figures in the report.
Exhibit = Literal[
    "table1_cifar10_resnet20",
    "table1_cifar10_wrn2810",
    "table1_caltech256",
    "table2_caltech256_cutout",
    "table2_caltech256_augmix",
    "table2_caltech256_perturb",
    "table3_tinyimagenet",
    "table4_cifar10",
    "table4_cifar10_ib",
    "table4_svhn",
    "table5_noisy_cifar10",
    "table6_tinyimagenet",
    "table6_imagenet",
    "weak_only",
    "append_vs_in_place",
    "figure1_mnist_mlp",
    "figure1_cifar10_resnet20",
    "figure2_cifar10",
    "figure2_svhn",
    "figure3_cifar10",
]
