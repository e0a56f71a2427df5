"""The Flask side: requests in, responses out."""
