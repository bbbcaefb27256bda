"""Selection of coresets in gradient space."""
