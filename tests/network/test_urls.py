"""From a URL as given to what is sent."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given, strategies as st

from imagecache.errors import InvalidURLError
from imagecache.keys import _ORDINARY, _checked
from imagecache.network.urls import checked_url, split_userinfo, target_of


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://a/%7Ex%2f.png?q=%20+&a[]=1#part", "/%7Ex%2f.png?q=%20+&a[]=1"),
        ("http://a", "/"),
        ("http://a?x=1", "/?x=1"),
        ("http://a/b c", "/b%20c"),
        ("http://a/100%.jpg", "/100%25.jpg"),
        ("http://a/ü?ü=ü", "/%C3%BC?%C3%BC=%C3%BC"),
    ],
)
def test_a_url_is_sent_as_spelled_where_it_can_be(url: str, sent: str) -> None:
    assert target_of(url).url.raw_path_qs == sent


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("HTTP://Example.COM/", ("http", "example.com", 80)),
        ("https://a:444/", ("https", "a", 444)),
        ("http://[::1]:8080/", ("http", "::1", 8080)),
        ("http://bücher.example/", ("http", "xn--bcher-kva.example", 80)),
    ],
)
def test_the_origin_is_what_is_connected_to(url: str, origin: tuple[str, str, int]) -> None:
    target = target_of(url)
    assert target.origin == origin
    assert target.host == origin[1]
    assert target.is_secure is (origin[0] == "https")


@given(st.text(max_size=40))
def test_any_text_is_a_url_that_can_be_sent_or_our_error(text: str) -> None:
    for url in (text, f"http://{text}", f"http://a/{text}"):
        try:
            checked_url(url)
            path = target_of(split_userinfo(url)[0]).url.raw_path_qs
        except InvalidURLError:
            continue
        assert path.isascii()
        assert not {" ", "\r", "\n"} & set(path)


@pytest.mark.parametrize(
    ("url", "bare", "authorization"),
    [
        ("http://a/@2x.png", "http://a/@2x.png", None),
        ("http://@a/", "http://a/", None),
        ("http://u@a/", "http://a/", "Basic dTo="),
        ("http://u:p%40@a:8/", "http://a:8/", "Basic dTpwQA=="),
    ],
)
def test_userinfo_is_told_apart(url: str, bare: str, authorization: str | None) -> None:
    assert split_userinfo(url) == (bare, authorization)


@given(st.from_regex(_ORDINARY, fullmatch=True))
def test_what_is_taken_without_being_parsed_has_nothing_that_a_parser_would_refuse(url: str) -> None:
    parts = urlsplit(url)
    assert parts.scheme in ("http", "https")
    assert parts.hostname
    assert parts.port is None or parts.port < 60_000
    assert (parts.username, parts.password) == (None, None)
    assert _checked(url) == url
