"""Coresets for augmentation: weighted medoids of gradient proxies, selected by greedy facility location."""

from selection.budgets import BudgetError
from selection.planning import Plan, plan
from selection.proxies import Proxies, ProxyError
from selection.select import Selection, select

__all__ = ["BudgetError", "Plan", "Proxies", "ProxyError", "Selection", "plan", "select"]
