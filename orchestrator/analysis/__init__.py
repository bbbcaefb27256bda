"""`medoid analyze`: a closer look at what a sweep has trained.

| module | what it holds |
| --- | --- |
| `networks`, `subsample`, `perturbations` | the trained networks, the images looked at, and what is done to these |
| `jacobian`, `factoring`, `comparison`, `lemma` | the mathematics: J within a memory budget, its singular values and subspaces on original and augmented images, Lemma 4.1 |
| `spectrum`, `summary` | all draws of one network, and the numbers of all networks by range |
| `figures`, `page`, `csv_files`, `terminal` | the forms these take |
| `writing`, `command` | into storage, and the command from end to end |
"""  # noqa: E501
