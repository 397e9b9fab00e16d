"""HTTP for everything that is fetched: trust, proxies, retries, ranges and redirects."""
