"""``make bench``: this server and the installed peers at the same work; no part of the package."""
