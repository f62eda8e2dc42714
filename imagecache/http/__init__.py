"""When a stored answer may be used: RFC 9110 and RFC 9111, for a private cache, as pure functions over values.

No I/O, no clock of its own, no aiohttp and no Pillow type lives here: a request's policy, the metadata of
what is stored and the time go in, a decision comes out, and no header value, however odd, raises. Each module is
a part of the standard and names its sections (of RFC 9111 where no other is named):

``dates`` (RFC 9110, 5.6.7), ``cache_control`` (5.2), ``directives`` (5.2.1, 5.4), ``freshness`` (4.2; RFC 5861 and
8246), ``validators`` (RFC 9110, 8.8; 3.2 and 4.3), ``storing`` (3 and 4.1); ``decision`` ties them together. What
callers ask of an answer is in ``conditions`` (RFC 9110, 13; 4.3.2) and ``ranges`` (RFC 9110, 14), what they are told
in ``cache_status`` (RFC 9211) and ``explanation``.
"""
