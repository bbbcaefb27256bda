"""Ray reads its settings when it is imported, which may happen while tests are collected: they are set before."""

from orchestrator.cluster import configure

configure()
