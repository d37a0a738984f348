"""The HTTP service: typed requests, limits, metrics, and a page to look at."""
