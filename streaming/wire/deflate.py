"""permessage-deflate: compressed WebSocket messages (RFC 7692)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from ..errors import ProtocolError

_NAME = "permessage-deflate"
_TAIL = b"\x00\x00\xff\xff"  # what a sync flush ends with; never sent (section 7.2.1)


@dataclass(frozen=True, slots=True)
class Deflate:
    """What a server is willing to use, and what it agreed on with one client.

    Without context takeover a message is compressed on its own: less well, but nothing is kept
    between messages, and the same bytes can be sent to every client that agreed on the same
    ``server_max_window_bits``. The window is two to the power of the bits, 9 to 15.
    """

    server_no_context_takeover: bool = True
    client_no_context_takeover: bool = True
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15

    def __post_init__(self) -> None:
        for bits in (self.server_max_window_bits, self.client_max_window_bits):
            if not 9 <= bits <= 15:
                raise ValueError(f"Window bits go from 9 to 15, not {bits}.")

    def negotiate(self, offered: str | None) -> tuple[Deflate, str] | None:
        """What to use with a client that sent this ``Sec-WebSocket-Extensions``, and the answer.

        The first offer that can be met is taken (section 5.1); ``None`` if there is none, and then
        messages simply are not compressed.
        """
        for offer in (offered or "").split(","):
            name, *params = (part.strip(" \t") for part in offer.split(";"))
            agreed = self._agree(params) if name == _NAME else None
            if agreed:
                return agreed
        return None

    def compressor(self) -> Compressor:
        """What the server compresses its messages with."""
        return Compressor(self.server_max_window_bits, takeover=not self.server_no_context_takeover)

    def decompressor(self) -> Decompressor:
        """What the server reads the client's messages with."""
        return Decompressor(
            self.client_max_window_bits, takeover=not self.client_no_context_takeover
        )

    def _agree(self, params: list[str]) -> tuple[Deflate, str] | None:
        wanted = _parse(params)
        if wanted is None:
            return None
        server_bits = min(self.server_max_window_bits, wanted.get("server_max_window_bits") or 15)
        if server_bits < 9:
            return None  # zlib cannot compress with a window of 256 bytes
        # A client that does not offer the parameter must not be given it (section 7.1.2.2).
        limit_client = "client_max_window_bits" in wanted
        client_bits = wanted.get("client_max_window_bits") or 15
        client_bits = min(self.client_max_window_bits, client_bits) if limit_client else 15
        agreed = Deflate(
            self.server_no_context_takeover or "server_no_context_takeover" in wanted,
            self.client_no_context_takeover or "client_no_context_takeover" in wanted,
            server_bits,
            max(client_bits, 9),  # a larger window reads what a smaller one wrote
        )
        answer = [_NAME]
        if agreed.server_no_context_takeover:
            answer.append("server_no_context_takeover")
        if agreed.client_no_context_takeover:
            answer.append("client_no_context_takeover")
        if server_bits < 15 or "server_max_window_bits" in wanted:
            answer.append(f"server_max_window_bits={server_bits}")
        if limit_client:
            answer.append(f"client_max_window_bits={client_bits}")
        return agreed, "; ".join(answer)


def _parse(params: list[str]) -> dict[str, int | None] | None:
    """The parameters of an offer, or None if it must be declined (section 7.1)."""
    wanted: dict[str, int | None] = {}
    for param in params:
        name, equals, value = param.partition("=")
        name, value = name.rstrip(" \t"), value.lstrip(" \t")
        if name in wanted:
            return None
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if equals:
                return None
            wanted[name] = None
        elif name == "client_max_window_bits" and not equals:
            wanted[name] = None
        elif name in ("server_max_window_bits", "client_max_window_bits"):
            if value not in _WINDOW_BITS:
                return None
            wanted[name] = int(value)
        else:
            return None
    return wanted


_WINDOW_BITS = frozenset(str(bits) for bits in range(8, 16))


class Compressor:
    """Compresses the messages of one direction (section 7.2.1)."""

    def __init__(self, window_bits: int = 15, *, takeover: bool = False) -> None:
        self._bits = window_bits
        self._takeover = takeover
        self._kept = self._new() if takeover else None

    def compress(self, data: bytes) -> bytes:
        """``data`` as the payload of a message whose first frame has RSV1 set.

        With context takeover the order of the calls is the order in which messages must be sent.
        """
        stream = self._kept or self._new()
        packed = stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)
        return packed.removesuffix(_TAIL)

    def _new(self) -> zlib._Compress:
        return zlib.compressobj(wbits=-self._bits)


class Decompressor:
    """Decompresses the messages of one direction (section 7.2.2)."""

    def __init__(self, window_bits: int = 15, *, takeover: bool = False) -> None:
        self._bits = window_bits
        self._takeover = takeover
        self._kept: zlib._Decompress | None = None

    def decompress(self, data: bytes, max_size: int) -> bytes:
        """The message that ``data`` was compressed from.

        Raises:
            ProtocolError: If it is not compressed data (1007), or longer than ``max_size`` bytes
                when decompressed (1009; no more than that is ever decompressed).
        """
        stream = self._kept or zlib.decompressobj(wbits=-self._bits)
        try:
            message = stream.decompress(data + _TAIL, max_size + 1)
        except zlib.error as error:
            raise ProtocolError("A message cannot be decompressed.", 1007) from error
        if len(message) > max_size:
            raise ProtocolError(f"A message of more than {max_size} bytes.", 1009)
        # A final block ends the stream and what follows is padding (section 7.2.3.4).
        if stream.eof and stream.unused_data.strip(b"\x00\xff"):
            raise ProtocolError("A message goes on after its final block.", 1007)
        self._kept = stream if self._takeover and not stream.eof else None
        return message
