"""Connected clients: their sockets, their deadlines, what they are sent. No Flask."""
