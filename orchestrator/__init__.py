"""The command line, sweeps on Ray, tracking and reports."""
