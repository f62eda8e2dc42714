"""Options are values: checked when made, readable, and nobody's to change afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from imagecache.network.settings import NetworkOptions, Timeouts


def test_the_defaults_are_the_designs() -> None:
    options = NetworkOptions()
    assert options.timeouts == Timeouts(connect=5, idle=10, total=60, min_rate=1024, rate_window=10)
    assert (options.max_body, options.max_redirects) == (64 * 2**20, 10)
    assert (options.per_host, options.connections) == (6, 64)
    assert (options.block_private, options.trust_env, options.max_retry_after) == (False, False, 5.0)


@pytest.mark.parametrize(
    "options",
    [
        {"max_body": 0}, {"per_host": 0}, {"connections": -1}, {"max_redirects": -1}, {"max_retry_after": -0.1},
        {"host_limits": {"a": 0}}, {"allow_addresses": ("a b",)},
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options)) if "allow_addresses" not in options else "neither"):
        NetworkOptions(**options)


def test_options_do_not_change_with_the_dict_they_were_made_from() -> None:
    limits, headers = {"CDN.example": 8}, {"X": "1"}
    options = NetworkOptions(host_limits=limits, headers=headers)
    limits.clear()
    headers.clear()
    assert dict(options.host_limits) == {"cdn.example": 8}
    assert dict(options.headers) == {"X": "1"}
    with pytest.raises(TypeError):
        options.host_limits["a"] = 1  # type: ignore[index]


def test_the_repr_is_readable_and_keeps_secrets() -> None:
    text = repr(NetworkOptions(headers={"Authorization": "Bearer secret"}))
    assert "max_body=67108864" in text
    assert "Timeouts(connect=5.0" in text
    assert "secret" not in text
