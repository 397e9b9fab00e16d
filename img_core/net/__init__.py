"""HTTP for everything that is fetched: trust, proxies, retries, ranges and redirects."""

__all__ = ["addresses", "git_urls", "hosts", "pace", "proxies", "redirects", "retry", "transport", "trust", "web"]
__version__ = "1.2"
