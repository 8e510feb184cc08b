"""A demonstration that needs nothing but the package: Cranfield's abstracts, embedded and judged."""
