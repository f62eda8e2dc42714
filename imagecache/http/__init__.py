"""When a stored answer may be used: RFC 9110 and RFC 9111, for a private cache, as pure functions over values.

No I/O, no clock of its own, no aiohttp and no Pillow type lives here: a request's policy, the metadata of
what is stored and the time go in, a decision comes out, and no header value, however odd, raises. Each module is
a part of the standard and names its sections (of RFC 9111 where no other is named): ``dates`` (RFC 9110, 5.6.7),
``cache_control`` (5.2), ``freshness`` (4.2), ``validators`` (RFC 9110, 8.8 and 13.1; 3.2 and 4.3), ``storing``
(3 and 4.1), and ``decision`` ties them together.
"""
