"""Pictures from addresses: only the public internet is asked, within limits, and each refusal is one sentence."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest

from cifar_core import fetching
from cifar_core.fetching import PUBLIC, Rules, checked, fetch_picture, why_refused
from cifar_core.photos import PhotoError

PICTURE = b"not really a picture" * 100


class Site(BaseHTTPRequestHandler):
    """Answers as its path asks."""

    asked: list[str] = []  # noqa: RUF012

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(self.path)
        kind, _, rest = self.path.lstrip("/").partition("/")
        match kind:
            case "to":
                self.send_response(302)
                self.send_header("Location", unquote(rest))
                self.end_headers()
            case "round":
                self.send_response(301)
                self.send_header("Location", "/round")
                self.end_headers()
            case "long":
                self.send_response(200)
                self.send_header("Content-Length", "99999999")
                self.end_headers()
            case "endless":
                self.send_response(200)
                self.end_headers()
                try:
                    while True:
                        self.wfile.write(bytes(10_000))
                except OSError:
                    pass
            case "slow" | "dripping" as how:
                # A byte now and then, so that no single read takes long; or that after the headers, without a length.
                if how == "dripping":
                    self.send_response(200)
                    self.end_headers()
                try:
                    for _ in range(100):
                        self.wfile.write(b"H")
                        time.sleep(0.1)
                except OSError:
                    pass
            case "missing":
                self.send_error(404)
            case "host":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(self.headers["Host"].encode())
            case _:
                self.send_response(200)
                self.send_header("Content-Length", str(len(PICTURE)))
                self.end_headers()
                self.wfile.write(PICTURE)


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The port of a server on this machine."""
    started = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=started.serve_forever, daemon=True).start()
    yield started.server_port
    started.shutdown()
    started.server_close()


def here_alone(address: fetching.Address) -> str | None:
    """As if this machine's own address were the only public one."""
    return None if address == ipaddress.ip_address("127.0.0.1") else why_refused(address) or "an address elsewhere"


HERE = Rules(here_alone, ports={}, seconds=5, most_bytes=50_000)


def refusal(url: str, rules: Rules = PUBLIC) -> str:
    with pytest.raises(PhotoError) as caught:
        fetch_picture(url, rules)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


def test_what_is_at_an_address_is_fetched_also_by_way_of_a_redirect(server: int) -> None:
    assert fetch_picture(f"http://127.0.0.1:{server}/cat.jpg", HERE) == PICTURE
    assert fetch_picture(f" http://127.0.0.1:{server}/to//cat.jpg?a=b c".replace("b c", "b"), HERE) == PICTURE
    assert fetch_picture(f"http://127.0.0.1:{server}/to/http://127.0.0.1:{server}/x", HERE) == PICTURE


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///etc/passwd", "begins with file:"),
        ("ftp://example.org/a.png", "begins with ftp:"),
        ("gopher://127.0.0.1:70/_x", "begins with gopher:"),
        ("data:image/png;base64,AAAA", "begins with data:"),
        ("javascript:alert(1)", "begins with javascript:"),
        ("example.org/a.png", "begins with something else"),
        ("", "begins with something else"),
        ("http://", "names no server"),
        ("http:///a.png", "names no server"),
        ("http://me:secret@example.org/", "a name or a password before an @"),
        ("http://example.org@127.0.0.1/", "a name or a password before an @"),
        ("http://example.org:22/", "names port 22"),
        ("http://example.org:0/", "names port 0"),
        ("https://example.org:80/", "names port 80"),
        ("http://example.org:99999/", "cannot be read"),
        ("http://[::1/", "cannot be read"),
        ("http://[fe80::1%25eth0]/", "names an interface"),
        ("http://example.org/a b", "has a space"),
        ("http://example.org\\@127.0.0.1/", "a backslash"),
        ("http://example.org/\r\nHost: x", "a control character"),
        ("http://example.org/" + "a" * 2000, "more than 2,000 characters"),
        # 127.0.0.1 as one number, in octal, in hexadecimal, shortened; 8.8.8.8 too, as nobody writes it so.
        ("http://2130706433/", "writes a number"),
        ("http://0177.0.0.1/", "writes a number"),
        ("http://0x7f.0.0.1/", "writes a number"),
        ("http://0x7f000001/", "writes a number"),
        ("http://127.1/", "writes a number"),
        ("http://127.0.0.1./", "writes a number"),
        ("http://134744072/", "writes a number"),
    ],
)
def test_what_is_written_otherwise_is_not_looked_up(url: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("looked up"))
    assert said in refusal(url)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "this machine's own"),
        ("127.8.8.8", "this machine's own"),
        ("0.0.0.0", "stands for this machine"),
        ("0.1.2.3", "private"),
        ("10.0.0.1", "private"),
        ("172.16.5.4", "private"),
        ("192.168.1.1", "private"),
        ("192.0.2.7", "private"),
        ("198.18.0.1", "private"),
        ("169.254.169.254", "link-local"),
        ("100.64.0.1", "no address of the public internet"),
        ("224.0.0.1", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::1", "this machine's own"),
        ("::", "stands for this machine"),
        ("fe80::1", "link-local"),
        ("fc00::1", "private"),
        ("fd12:3456::1", "private"),
        ("fec0::1", "private"),
        ("ff02::1", "multicast"),
        ("2001:db8::1", "private"),
        ("100::1", "reserved"),
        ("::ffff:127.0.0.1", "this machine's own"),
        ("::ffff:10.0.0.1", "private"),
        ("::ffff:169.254.169.254", "link-local"),
        ("::127.0.0.1", "this machine's own"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b::7f00:1", "this machine's own"),
        ("64:ff9b:1::1", "private"),
        ("2002:7f00:1::", "this machine's own"),
        ("2002:c0a8:101::1", "private"),
        # Teredo: the client's address, inverted, is at the end.
        ("2001:0:4136:e378:8000:63bf:80ff:fffe", "this machine's own"),
    ],
)
def test_addresses_that_are_not_public_are_refused_and_named(
    address: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("connected"))
    reason = why_refused(ipaddress.ip_address(address))
    assert reason
    assert kind in reason
    host = f"[{address}]" if ":" in address else address
    assert f"is {reason} (" in refusal(f"http://{host}/a.png")
    # And where a harmless name stands for it, even if it stands for a public address too.
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    entries = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", 80)),
        (family, socket.SOCK_STREAM, 6, "", (address, 80)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    assert f"pictures.example is {reason} (" in refusal("http://pictures.example/a.png")


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:4700:4700::1111", "64:ff9b::8.8.8.8"])
def test_public_addresses_are_not_refused(address: str) -> None:
    assert why_refused(ipaddress.ip_address(address)) is None


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("http://10.0.0.1/a", "10.0.0.1 is a private address"),
        ("http://[::1]/a", "::1 is this machine's own address"),
        ("http://[::ffff:127.0.0.1]/", "this machine's own address"),
        ("//169.254.169.254/latest/meta-data", "is a link-local address"),
        ("http://[", "The address leads on to one that cannot be read"),
        ("file:///etc/passwd", "The address that it leads on to begins with file:"),
        ("http://2130706433/", "The address that it leads on to writes a number"),
        ("http://a:b@127.0.0.1/", "The address that it leads on to has a name or a password"),
    ],
)
def test_a_redirect_is_checked_as_the_first_address_is(server: int, place: str, said: str) -> None:
    before = len(Site.asked)
    assert said in refusal(f"http://127.0.0.1:{server}/to/{place}", HERE)
    assert len(Site.asked) == before + 1


def test_a_name_is_looked_up_once_and_the_address_that_was_checked_is_asked(
    server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: a second look-up would give a private address."""
    answers = iter([("127.0.0.1", server), ("10.0.0.1", 80), ("10.0.0.1", 80)])
    looked_up: list[str] = []
    connected: list[Any] = []
    connect = socket.create_connection

    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", next(answers))]

    def create_connection(address: tuple[str, int], *more: Any) -> socket.socket:
        connected.append(address)
        # Without a look-up of its own, as the address is a number.
        plain = socket.socket()
        plain.settimeout(5)
        plain.connect(address)
        return plain

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket, "create_connection", create_connection)
    # The server is told the name all the same.
    assert fetch_picture(f"http://rebind.example:{server}/host", HERE) == f"rebind.example:{server}".encode()
    assert looked_up == ["rebind.example"]
    assert connected == [("127.0.0.1", server)]
    assert connect is not socket.create_connection
    # A redirect to the same name is another request, and what the name stands for then is checked.
    answers = iter([("127.0.0.1", server), ("10.0.0.1", 80)])
    assert "is a private address" in refusal(f"http://rebind.example:{server}/to//x", HERE)


def test_too_much_too_slow_missing_and_endless_redirects_are_said(server: int) -> None:
    at = f"http://127.0.0.1:{server}"
    assert "larger than" in refusal(f"{at}/long", HERE)
    assert "larger than" in refusal(f"{at}/endless", HERE)
    assert "answered 404" in refusal(f"{at}/missing", HERE)
    assert "more than 3 times" in refusal(f"{at}/round", HERE)
    for path in ("slow", "dripping"):
        began = time.monotonic()
        assert "took longer than 0.5 seconds" in refusal(f"{at}/{path}", Rules(here_alone, {}, seconds=0.5)), path
        assert time.monotonic() - began < 1.5


def test_a_look_up_that_takes_too_long_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(1) or [])
    assert "took longer than 0.2 seconds" in refusal("http://slow.example/", Rules(why_refused, {}, seconds=0.2))


def test_a_server_that_is_not_there_and_one_that_is_none_of_the_web(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        assert "did not answer" in refusal(f"http://127.0.0.1:{port}/", HERE)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "There is no server pictures.example" in refusal("http://pictures.example/")


def test_without_certificate_nothing_is_fetched(server: int) -> None:
    message = refusal(f"https://127.0.0.1:{server}/", HERE)
    assert "certificate" in message or "did not answer" in message


def test_there_is_no_network_where_there_is_no_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoWay:
        def __init__(self, *_: Any) -> None:
            raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "socket", NoWay)
    assert not fetching.online()


def test_plain_addresses_are_left_as_they_are() -> None:
    for url in (
        "https://example.org/a.jpg",
        "http://example.org:80/?b=c",
        "https://93.184.215.14/x",
        "http://[2606::1]/",
    ):
        assert checked(url).geturl() == url
