"""Coresets for augmentation: weighted medoids of gradient proxies, selected by greedy facility location."""

from selection.budgets import BudgetError
from selection.proxies import Proxies, ProxyError
from selection.select import Selection, select

__all__ = ["BudgetError", "Proxies", "ProxyError", "Selection", "select"]
