"""The report of a sweep: tables, figures, CSV files and one self-contained page.

| module | what it holds |
| --- | --- |
| `results` | what the trials of a sweep left in storage |
| `statistics` | mean and deviation, and the share of full augmentation's gain with its interval |
| `comparisons` | trials gathered into cells, cells into tables |
| `published` | the paper's figures, as printed, from `published.yaml` |
| `setups` | where the set-ups of two sweeps differ |
| `paper` | comparisons laid out as the paper's tables, with its figures beside ours |
| `speed`, `time_tables` | speed-ups over full augmentation, and what selections take |
| `wording`, `paper_wording` | numbers and notes as every table words them |
| `terminal`, `paper_terminal`, `markdown`, `csv_files`, `page` | the forms a table takes |
| `drawing`, `figures`, `time_figures`, `speed_figure`, `contact_sheets` | the plots |
| `provenance` | commits, hardware, hosts, versions and hashes behind the numbers |
| `writing` | `write_report`, which puts all of it into storage |

Nothing is imported here, so that `terminal` and `paper_terminal` work where matplotlib and jinja2 are not installed.
"""
