"""The settings of a server, checked when they are made."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress

from zoo.errors import UsageError, did_you_mean

RUNTIMES = ("tensorflow", "openvino", "onnxruntime")
_LEAST = {
    "port": 0,
    "max_body": 1_000,
    "max_queue": 1,
    "max_batch": 1,
    "timeout": 0.05,
    "drain": 0.0,
    "poll": 0.05,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a server.

    Attributes:
        host: the address to listen on; only loopback addresses work without a token.
        port: the port; 0 for a free one.
        token: what clients send as `Authorization: Bearer TOKEN`; empty for none.
        max_body: largest body of a request in bytes.
        max_queue: largest number of requests that wait for a model; more are answered with 429.
        max_batch: largest number of rows of several requests that are computed together.
        timeout: seconds until a request is answered with 504, and for a client to send it.
        drain: seconds for requests in progress after SIGTERM.
        poll: seconds between two looks for new versions.
        versions: `latest`, `all`, or version numbers separated by commas.
        runtime: what computes the models: `tensorflow`, `openvino` or `onnxruntime`.
        labels: version numbers by label, such as `{"stable": 1}`, or `{"MODEL:stable": 1}` for one model.

    Raises:
        UsageError: a setting is out of range, or the address is not loopback and there is no token.

    Example:
        >>> Settings(port=8502).origin
        'http://127.0.0.1:8502'
    """

    host: str = "127.0.0.1"
    port: int = 8501
    token: str = ""
    max_body: int = 32 << 20
    max_queue: int = 256
    max_batch: int = 64
    timeout: float = 30.0
    drain: float = 30.0
    poll: float = 1.0
    versions: str = "latest"
    runtime: str = "tensorflow"
    labels: dict[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise UsageError(f"{name} is {getattr(self, name)}; expected at least {least}. Pass such a number.")
        if self.port > 65_535:
            raise UsageError(f"port is {self.port}; expected at most 65535. Pass another port, such as 8501.")
        if not self.token and not is_loopback(self.host):
            raise UsageError(
                f"Anyone who reaches {self.host} could use the models, and the golden examples on the page. Pass a token "
                "(--token, or the variable ZOO_SERVE_TOKEN), or leave the host out to serve this machine alone."
            )
        if self.token and not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise UsageError("The token has spaces, or characters other than ASCII. Choose another one.")
        if self.versions not in ("latest", "all") and not all(
            number.strip().isdecimal() for number in self.versions.split(",")
        ):
            raise UsageError(f"versions is {self.versions!r}. Pass latest, all, or numbers such as 1,2.")

        if self.runtime not in RUNTIMES:
            raise UsageError(f"runtime is {self.runtime!r}. {did_you_mean(self.runtime, RUNTIMES)}")

    @property
    def origin(self) -> str:
        """The address for a browser, as printed at the start."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{'127.0.0.1' if self.host == '0.0.0.0' else host}:{self.port}"

    def wants(self, number: int, newest: int) -> bool:
        """Returns whether a version is to be served, given the newest one."""
        if self.versions == "all":
            return True
        if self.versions == "latest":
            return number == newest
        return number in {int(part) for part in self.versions.split(",")}


@functools.lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Returns whether a host name or an address is this machine's own.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
