"""For the tests of applications: streams and WebSockets of an app in the test's own process.

    def test_a_price_is_told(app):
        with serve(app) as site, site.events("/prices") as reader:
            set_price(7)
            assert reader.next().json() == {"price": 7}

Nothing waits without end: what does not come in time is ``TooLate``, an ``AssertionError`` that
says what there was instead. With pytest there are fixtures (``plugin``): ``streaming_site``,
``published`` and ``streaming_clock``.
"""

from .deadline import PATIENCE, TooLate
from .later import Clock, clock
from .published import Published, record
from .reader import Event, Reader
from .site import Site, serve
from .talk import Closed, Refused, Talk

__all__ = [
    "PATIENCE",
    "Clock",
    "Closed",
    "Event",
    "Published",
    "Reader",
    "Refused",
    "Site",
    "Talk",
    "TooLate",
    "clock",
    "record",
    "serve",
]
