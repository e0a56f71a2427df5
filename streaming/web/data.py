"""What is published: text, or whatever the application's JSON provider can write."""

from __future__ import annotations

from flask import json


def print_data(data: object) -> str:
    """The text of a message that says ``data``: text as it is, anything else as JSON.

    Without an application context Flask's own provider writes it.

    Raises:
        TypeError: If it is bytes, or cannot be written as JSON.
    """
    if isinstance(data, str):
        return data if type(data) is str else str.__str__(data)  # Markup, an enum's member
    if isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(
            "A message is text or JSON, not bytes: publish data.decode(), or base64 of it."
        )
    return json.dumps(data)
