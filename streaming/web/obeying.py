"""What an order to let go of clients, or a question about them, means for one of them."""

from __future__ import annotations

from ..clients.client import Client
from ..errors import Recalled, Revoked
from ..hub.orders import Order


def obey(order: Order, client: Client) -> None:
    """Let go of ``client``, if it is meant."""
    if not is_meant(order, client):
        return
    if order.is_final:
        client.end(Revoked("You may not be here any more."))
    else:
        client.end(Recalled("Connect again."))


def is_meant(order: Order, client: Client) -> bool:
    """Whether ``order`` is about ``client``."""
    who = client.identity.id if client.identity is not None else None
    if order.identity not in (None, who) or order.client not in (None, client.id):
        return False
    return order.channel is None or order.channel in client.channels
