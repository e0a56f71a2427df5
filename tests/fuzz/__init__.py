"""Properties that hold for whatever a peer, a file or a configuration says."""
