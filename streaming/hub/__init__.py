"""The engine: channels, who follows them, who is in a room. No Flask, no sockets."""
