"""HTTP for everything that is fetched: trust, proxies, retries, ranges and redirects."""

__all__ = [
    "addresses",
    "dial",
    "git_urls",
    "hosts",
    "http1",
    "nested_tls",
    "pace",
    "proxies",
    "redirects",
    "retry",
    "transport",
    "trust",
]
__version__ = "1.0"
