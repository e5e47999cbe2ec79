"""A picture from an address that a visitor gives, without lending them this machine's place in its network.

What a server fetches for others it fetches from where it stands, behind the firewall. So only public addresses are
asked: a name is looked up once, all that it stands for is checked, and the connection goes to the very address that
was checked, so that another answer to a second look-up (DNS rebinding) changes nothing. Each redirect is checked anew.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from cifar_core.photos import PhotoError

MOST_BYTES = 20_000_000
SECONDS = 10.0
REDIRECTS = 3
LONGEST = 2000
"""Characters of an address."""

PORTS: dict[str, tuple[int, ...]] = {"http": (80,), "https": (443,)}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# IPv4 addresses inside of IPv6 ones, which a router may unpack: NAT64 (RFC 6052 and 8215) and IPv4-compatible ones.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")
_COMPATIBLE = ipaddress.ip_network("::/96")


@dataclass(frozen=True)
class Rules:
    """What is fetched at all.

    Args:
        refused: Says of an address why it is not asked; None where it may be.
        ports: Allowed ones, by scheme; none at all of a scheme allows all.
        seconds: For everything together: looking up, connecting, all redirects, all bytes.
    """

    refused: Callable[[Address], str | None]
    ports: dict[str, tuple[int, ...]]
    seconds: float = SECONDS
    most_bytes: int = MOST_BYTES


def why_refused(address: Address) -> str | None:
    """What kind of address this is, where it is none of the public internet's.

    Addresses of IPv4 inside of IPv6 ones (mapped, 6to4, Teredo, NAT64) are judged as what they carry.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address in _LOCAL_NAT64:
            return "a private address"
        for carried in _carried(address):
            if reason := why_refused(carried):
                return reason
        if address in _NAT64:
            return None
    site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    kinds = (
        (address.is_unspecified, "an address that stands for this machine"),
        (address.is_loopback, "this machine's own address"),
        (address.is_link_local, "a link-local address"),
        (address.is_multicast, "a multicast address"),
        (site_local, "a private address"),
        (address.is_reserved, "a reserved address"),
        (address.is_private, "a private address"),
        # Carrier-grade NAT, for one, is neither private nor global.
        (not address.is_global, "no address of the public internet"),
    )
    return next((kind for holds, kind in kinds if holds), None)


PUBLIC = Rules(why_refused, PORTS)


def fetch_picture(url: str, rules: Rules = PUBLIC) -> bytes:
    """The content at an address, which is whatever it is: `read_photo` tells whether it is a picture.

    Raises:
        PhotoError: One sentence: why this address is not fetched, or what went wrong.
    """
    deadline = time.monotonic() + rules.seconds
    parts = checked(url, rules)
    for _ in range(REDIRECTS + 1):
        addresses = _looked_up(parts, rules, deadline)
        answer = _asked(parts, addresses, rules, deadline)
        if isinstance(answer, bytes):
            return answer
        try:
            onward = urljoin(parts.geturl(), answer)
        except ValueError:
            raise PhotoError(
                "The address leads on to one that cannot be read; give the address of the picture itself."
            ) from None
        parts = checked(onward, rules, redirected=True)
    raise PhotoError(f"The address leads on to others more than {REDIRECTS} times; give the address of the picture.")


def checked(url: str, rules: Rules = PUBLIC, redirected: bool = False) -> SplitResult:
    """The parts of an address that may be looked up.

    Raises:
        PhotoError: It is no address of http or https, or one that is written to mislead.
    """
    this = "The address that it leads on to" if redirected else "The address"
    url = url.strip()
    if len(url) > LONGEST:
        raise PhotoError(f"{this} has more than {LONGEST:,} characters; give a shorter one.")
    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise PhotoError(f"{this} has a space, a backslash or a control character in it; copy it anew.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise PhotoError(f"{this} cannot be read; copy it anew.") from None
    if parts.scheme not in PORTS:
        kind = f"{parts.scheme}:" if parts.scheme else "something else"
        raise PhotoError(f"{this} begins with {kind[:20]}; only http:// and https:// are fetched.")
    if not host:
        raise PhotoError(f"{this} names no server; it should look like https://example.org/picture.jpg.")
    if "@" in parts.netloc:
        raise PhotoError(f"{this} has a name or a password before an @, which is not sent; leave them out.")
    allowed = rules.ports.get(parts.scheme)
    if allowed and (allowed[0] if port is None else port) not in allowed:
        raise PhotoError(f"{this} names port {port}; only the usual ports of http and https are asked (80 and 443).")
    if "%" in host:
        raise PhotoError(f"{this} names an interface of this machine (%), which is not asked.")
    # 2130706433, 0x7f.1 and 0177.0.0.1 are all 127.0.0.1 to some programs, and something else to others.
    last = host.rstrip(".").rpartition(".")[2]
    if ":" not in host and re.fullmatch(r"[0-9]+|0x[0-9a-f]*", last):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise PhotoError(
                f"{this} writes a number for its server ({host[:40]}); write it as four decimal numbers from 0 to 255."
            ) from None
    return parts


def online() -> bool:
    """Whether this machine has a way to the internet; nothing is sent to find out."""
    for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return True
    return False


def _carried(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """The addresses of IPv4 in one of IPv6."""
    if address.ipv4_mapped:
        yield address.ipv4_mapped
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def _looked_up(parts: SplitResult, rules: Rules, deadline: float) -> list[tuple[str, int]]:
    """Addresses and ports that may be asked, checked all; one that may not refuses the name as a whole."""
    host = parts.hostname or ""
    port = parts.port or PORTS[parts.scheme][0]
    found: list[str] = []
    failed: list[Exception] = []

    def look_up() -> None:
        try:
            name = host if ":" in host else host.encode("idna").decode("ascii")
            found.extend(str(entry[4][0]) for entry in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            failed.append(error)

    # A look-up cannot be given a time, but left alone.
    worker = threading.Thread(target=look_up, daemon=True)
    worker.start()
    worker.join(max(deadline - time.monotonic(), 0))
    if worker.is_alive():
        raise PhotoError(_late(host, rules))
    if failed or not found:
        raise PhotoError(f"There is no server {host[:80]}, or this machine cannot look it up; check the address.")
    addresses = [str(ipaddress.ip_address(entry)) for entry in dict.fromkeys(found)]
    for entry in addresses:
        if reason := rules.refused(ipaddress.ip_address(entry)):
            raise PhotoError(
                f"{host[:80]} is {reason} ({entry}), from which nothing is fetched; save the picture and upload it."
            )
    return [(entry, port) for entry in addresses]


class _Connection(http.client.HTTPConnection):
    """To an address that was checked, whatever the name stands for by now."""

    def __init__(self, host: str, address: tuple[str, int], seconds: float, secure: bool) -> None:
        super().__init__(host, address[1], timeout=seconds)
        self.default_port = PORTS["https" if secure else "http"][0]
        self._address, self._secure = address, secure
        self.wire: socket.socket | None = None
        """What `sock` is, which is forgotten as soon as the headers of an answer without a length are read."""

    def connect(self) -> None:
        self.sock = self.wire = socket.create_connection(self._address, self.timeout)
        if self._secure:
            context = ssl.create_default_context()
            # Shaken hands with only once it is the socket that is cut off at the deadline.
            secured = context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock = self.wire = secured
            secured.do_handshake()


@contextmanager
def _closed_at(deadline: float, connection: _Connection) -> Iterator[None]:
    """Cut a connection off, as a server that sends a byte now and then never meets a time for one byte."""

    def cut() -> None:
        if connection.wire:
            with suppress(OSError):
                # Of the connection itself, as that of an encrypted one would wait for its other end.
                socket.socket.shutdown(connection.wire, socket.SHUT_RDWR)

    timer = threading.Timer(max(deadline - time.monotonic(), 0), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _asked(parts: SplitResult, addresses: list[tuple[str, int]], rules: Rules, deadline: float) -> bytes | str:
    """The content, or the address that is answered in its place."""
    host = parts.hostname or ""
    name = host if ":" in host else host.encode("idna").decode("ascii")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + (
        f"?{quote(parts.query, safe='/%:@!$&()*+,;=~-._?')}" if parts.query else ""
    )
    for place, address in enumerate(addresses):
        left = deadline - time.monotonic()
        if left <= 0:
            raise PhotoError(_late(host, rules))
        connection = _Connection(name, address, left, parts.scheme == "https")
        try:
            with _closed_at(deadline, connection):
                try:
                    connection.connect()
                except OSError:
                    # Another address of the same server may answer, such as one of IPv4.
                    if place + 1 < len(addresses) and time.monotonic() < deadline:
                        continue
                    raise
                headers = {"User-Agent": "CIFAR-Explorer", "Accept": "image/*", "Accept-Encoding": "identity"}
                connection.request("GET", path, headers=headers)
                answer = _content(connection.getresponse(), host, rules)
            # What was cut off looks like an end.
            if time.monotonic() >= deadline:
                raise PhotoError(_late(host, rules))
            return answer
        except PhotoError:
            raise
        except ssl.SSLError:
            if time.monotonic() >= deadline:
                raise PhotoError(_late(host, rules)) from None
            raise PhotoError(f"The certificate of {host[:80]} is not one to trust, so nothing is fetched.") from None
        except (OSError, http.client.HTTPException, ValueError):
            if time.monotonic() >= deadline:
                raise PhotoError(_late(host, rules)) from None
            raise PhotoError(f"{host[:80]} did not answer as a web server does; check the address.") from None
        finally:
            connection.close()
    raise PhotoError(f"{host[:80]} did not answer; check the address.")


def _content(answer: http.client.HTTPResponse, host: str, rules: Rules) -> bytes | str:
    if answer.status in (301, 302, 303, 307, 308) and (place := answer.getheader("Location")):
        return place
    if answer.status != 200:
        raise PhotoError(f"{host[:80]} answered {answer.status} ({answer.reason[:40]}) instead of a picture.")
    too_much = f"What {host[:80]} sends is larger than {rules.most_bytes // 1_000_000} MB; give a smaller picture."
    length = answer.getheader("Content-Length", "")
    if length.isascii() and length.isdecimal() and int(length[:20]) > rules.most_bytes:
        raise PhotoError(too_much)
    content = answer.read(rules.most_bytes + 1)
    if len(content) > rules.most_bytes:
        raise PhotoError(too_much)
    return content


def _late(host: str, rules: Rules) -> str:
    return f"{host[:80]} took longer than {rules.seconds:g} seconds; try again, or save the picture and upload it."
