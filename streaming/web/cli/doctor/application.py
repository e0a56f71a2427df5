"""What is looked at in the application: its settings, and its log."""

from __future__ import annotations

from ....errors import LogUnavailable
from ...surroundings import late_settings
from .finding import Check, Finding, Scene

QUIET_LIMIT = 55.0
"""Seconds of silence that proxies bear: most cut after 60."""


def log_check(scene: Scene) -> Finding | None:
    """Whether the log can be reached and written to."""
    try:
        scene.hub.log.check()
    except LogUnavailable as error:
        return Finding(
            "log",
            f"The log cannot be written to: {error}",
            "Nothing can be published, and nobody can join.",
            "Do what the reason says; the user of the server has to have the right to write, too.",
            "deployment.md#several-workers-several-machines",
        )
    return None


def late(scene: Scene) -> Finding | None:
    """Settings that came behind ``Streaming(app)``."""
    names = late_settings(scene.app.config, scene.state)
    if not names:
        return None
    return Finding(
        "late-settings",
        f"{', '.join(names)} was set behind Streaming(app).",
        "The settings are read once, there: it has no effect.",
        "Set it before Streaming(app), init_app or the registration of the blueprint.",
        "configuration.md#configuration",
    )


def secret_key(scene: Scene) -> Finding | None:
    """Whether there is a secret."""
    if scene.app.secret_key:
        return None
    return Finding(
        "secret-key",
        "SECRET_KEY is not set.",
        "Without it there are no sessions and no tickets, and whoever guesses an Idempotency-Key "
        "knows the id of the run behind it.",
        "Set app.secret_key to something random that all processes have and nobody else knows.",
        "runs.md#once",
    )


def trusted_hosts(scene: Scene) -> Finding | None:
    """Whether the application knows how it is called."""
    if scene.app.config.get("TRUSTED_HOSTS"):
        return None
    return Finding(
        "trusted-hosts",
        "TRUSTED_HOSTS is not set: the app takes any Host for its own.",
        "A page may open WebSockets to its own host. A foreign page whose name was made to point "
        "to your server (DNS rebinding) passes for it.",
        "Set app.config['TRUSTED_HOSTS'] = ['example.org', 'localhost', '127.0.0.1'], whatever the "
        "server is called by, or have the proxy answer your own names only.",
        "deployment.md#behind-a-proxy-proxyfix-and-streaming_origins",
    )


def permissions(scene: Scene) -> Finding | None:
    """Whether anybody may read."""
    if scene.state.permissions.says_anything:
        return None
    return Finding(
        "permissions",
        "There is no authorize, no identify and no STREAMING_PUBLIC.",
        "The built-in addresses serve nobody, but in debug mode everybody.",
        "Say who may do what: Streaming(app, authorize=…), or list what strangers may read: "
        "STREAMING_PUBLIC = ['news'].",
        "logins.md#who-it-is",
    )


def all_origins(scene: Scene) -> Finding | None:
    """Whether every page may connect."""
    if "*" not in scene.state.settings.origins:
        return None
    return Finding(
        "all-origins",
        "STREAMING_ORIGINS has '*'.",
        "Any page that your users open may open a WebSocket with their cookies.",
        "List the origins of your own pages: ['https://example.org'].",
        "security.md#what-your-application-must-do-itself",
    )


def heartbeat(scene: Scene) -> Finding | None:
    """Whether streams are silent for longer than proxies bear."""
    every = scene.state.settings.heartbeat
    if every is not None and every <= QUIET_LIMIT:
        return None
    return Finding(
        "heartbeat",
        f"STREAMING_HEARTBEAT is {every}.",
        "Most proxies cut a connection that was silent for 60 s, and clients that vanished without "
        "a word are noticed at the next message only.",
        "Leave it at 15 s, below the time-out of everything in between.",
        "configuration.md#subscribers",
    )


def deadlines(scene: Scene) -> Finding | None:
    """Whether clients that are stuck are let go of."""
    settings = scene.state.settings
    off = [name for name in ("send_timeout", "pong_timeout") if getattr(settings, name) is None]
    if not off:
        return None
    return Finding(
        "deadlines",
        f"{' and '.join(f'STREAMING_{name.upper()}' for name in off)} is None.",
        "A client whose network is gone holds its place and its descriptor for hours.",
        "Leave it out: the default is a minute at most.",
        "configuration.md#subscribers",
    )


CHECKS = (
    Check("log", log_check),
    Check("late-settings", late),
    Check("secret-key", secret_key),
    Check("trusted-hosts", trusted_hosts),
    Check("permissions", permissions),
    Check("all-origins", all_origins),
    Check("heartbeat", heartbeat),
    Check("deadlines", deadlines),
)
