"""The server behaves as an origin server does, unless it is told to misbehave."""

import asyncio
import io
import socket
import ssl
import urllib.request
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from imagecache.testing import Answer, FakeClock, Gate, ImageServer, LoggedRequest, picture
from imagecache.testing.conditions import http_date
from tests.network.certificate import LOOPBACK, certificate_for

# Self-signed for 127.0.0.1, its key beside it, valid for a hundred years; it protects nothing.


async def get(
    session: aiohttp.ClientSession, url: str, method: str = "GET", **headers: str
) -> tuple[aiohttp.ClientResponse, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with session.request(method, url, headers=named, allow_redirects=False) as response:
        return response, await response.read()


class TestPlainAnswers:
    async def test_an_image_with_validators_length_and_type(
        self, server: ImageServer, session: aiohttp.ClientSession
    ) -> None:
        response, body = await get(session, server.add("/cat.png"))
        assert response.status == 200
        assert Image.open(io.BytesIO(body)).format == "PNG"
        assert response.headers["Content-Type"] == "image/png"
        assert response.headers["Content-Length"] == str(len(body))
        assert response.headers["ETag"] == server.etag("/cat.png")
        assert "Last-Modified" in response.headers
        assert "Server" not in response.headers
        assert "Cache-Control" not in response.headers

    async def test_every_kind_of_content(
        self, server: ImageServer, session: aiohttp.ClientSession, tmp_path: Path
    ) -> None:
        (tmp_path / "file.gif").write_bytes(picture(format="GIF"))
        kinds: list[tuple[str, bytes | Image.Image | Path, str]] = [
            ("/bytes", b"\xff\xd8\xff and more", "image/jpeg"),
            ("/image", Image.new("RGB", (3, 2)), "image/png"),
            ("/file", tmp_path / "file.gif", "image/gif"),
            ("/webp", picture(format="WEBP"), "image/webp"),
            ("/page.html", b"<html>", "text/html"),
            ("/nothing", b"plain", "application/octet-stream"),
        ]
        for path, content, media_type in kinds:
            response, body = await get(session, server.add(path, content))
            assert response.headers["Content-Type"] == media_type
            assert body == server.body(path)

    async def test_two_paths_get_two_generated_pictures(self, server: ImageServer) -> None:
        server.add_all({"/a.png": picture(seed=1)})
        server.add("/b.png")
        server.add("/c.png")
        assert len({server.body(f"/{name}.png") for name in "abc"}) == 3

    async def test_an_unknown_path_is_a_404_without_a_body(
        self, server: ImageServer, session: aiohttp.ClientSession
    ) -> None:
        response, body = await get(session, server.url("/nowhere"))
        assert (response.status, body, "ETag" in response.headers) == (404, b"", False)

    async def test_head_says_the_same_without_the_body(
        self, server: ImageServer, session: aiohttp.ClientSession
    ) -> None:
        url = server.add("/cat.png")
        whole, _ = await get(session, url)
        head, body = await get(session, url, "HEAD")
        assert (head.status, body) == (200, b"")
        assert {**head.headers, "Date": ""} == {**whole.headers, "Date": ""}
        assert server.bytes_sent == len(server.body("/cat.png"))

    async def test_other_methods_are_refused(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        response, _ = await get(session, server.add("/cat.png"), "POST")
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")

    async def test_a_path_stands_for_every_query_and_an_exact_one_comes_first(
        self, server: ImageServer, session: aiohttp.ClientSession
    ) -> None:
        url = server.add("/cat.png", b"any")
        server.add("/cat.png?size=1", b"small")
        assert (await get(session, url + "?sig=abc"))[1] == b"any"
        assert (await get(session, url + "?size=1"))[1] == b"small"
        assert server.count("/cat.png") == 2
        assert server.count("/cat.png?size=1") == 1
        assert server.count(url) == 2

    async def test_paths_that_need_quoting(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        url = server.add("/kätz chen.png", b"x")
        assert (await get(session, url))[1] == b"x"
        assert (await get(session, server.url("/kätz chen.png")))[1] == b"x"
        assert server.count("/kätz chen.png") == 2

    async def test_fields_are_added_and_taken_away(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        url = server.add(
            "/cat.png",
            etag=False,
            last_modified=False,
            headers={"Cache-Control": "max-age=5", "Date": None, "Content-Type": None},
        )
        response, _ = await get(session, url)
        assert set(response.headers) == {"Cache-Control", "Content-Length", "Connection"}

    async def test_without_a_length_the_end_of_the_connection_ends_the_body(self, server: ImageServer) -> None:
        url = server.add("/cat.png", headers={"Content-Length": None})
        async with asyncio.timeout(5), aiohttp.ClientSession() as session:
            response, body = await get(session, url)
        assert body == server.body("/cat.png")
        assert "Content-Length" not in response.headers
        assert "Transfer-Encoding" not in response.headers

    async def test_dates_come_from_the_clock(self, session: aiohttp.ClientSession) -> None:
        async with ImageServer(clock=FakeClock(wall=1_000_000_000.0)) as server:
            response, _ = await get(session, server.add("/cat.png", last_modified=900_000_000.0))
            assert response.headers["Date"] == http_date(1_000_000_000)
            assert response.headers["Last-Modified"] == http_date(900_000_000)
            assert server.requests[0].time == 1_000_000_000.0


class TestConditions:
    async def test_a_304_has_the_validators_and_no_body(
        self, server: ImageServer, session: aiohttp.ClientSession
    ) -> None:
        url = server.add("/cat.png", etag='"v1"', headers={"Cache-Control": "max-age=9", "Content-Language": "en"})
        response, body = await get(session, url, If_None_Match='"v1"')
        assert (response.status, body) == (304, b"")
        assert response.headers["ETag"] == '"v1"'
        assert response.headers["Cache-Control"] == "max-age=9"
        assert "Content-Language" not in response.headers
        assert "Content-Type" not in response.headers
        assert server.bytes_sent == 0

    async def test_by_date(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        url = server.add("/cat.png", etag=False)
        response, _ = await get(session, url)
        assert (await get(session, url, If_Modified_Since=response.headers["Last-Modified"]))[0].status == 304

    @pytest.mark.parametrize("change", ["touch", "replace"])
    async def test_a_new_version_has_other_validators(
        self, server: ImageServer, session: aiohttp.ClientSession, change: str
    ) -> None:
        url = server.add("/cat.png", etag="v1", last_modified=1_000_000_000.0)
        old, old_body = await get(session, url)
        assert old.headers["ETag"] == '"v1"'
        getattr(server, change)("/cat.png")
        new, new_body = await get(
            session, url, If_None_Match=old.headers["ETag"], If_Modified_Since=old.headers["Last-Modified"]
        )
        assert new.status == 200
        assert new.headers["ETag"] != old.headers["ETag"]
        assert new.headers["Last-Modified"] != old.headers["Last-Modified"]
        assert (new_body == old_body) == (change == "touch")

    async def test_no_two_versions_share_a_validator(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        url = server.add("/cat.png")
        seen = []
        for _ in range(3):
            response, _ = await get(session, url)
            seen.append((response.headers["ETag"], response.headers["Last-Modified"]))
            server.touch("/cat.png")
        assert len({etag for etag, _ in seen}) == len({date for _, date in seen}) == 3

    async def test_a_version_without_validators_stays_without(self, server: ImageServer) -> None:
        server.add("/cat.png", etag=False, last_modified=False)
        server.touch("/cat.png")
        assert server.etag("/cat.png") is None

    async def test_conditions_on_an_error_are_ignored(
        self, server: ImageServer, session: aiohttp.ClientSession
    ) -> None:
        url = server.add("/cat.png", status=404)
        assert (await get(session, url, If_None_Match="*"))[0].status == 404

    async def test_a_range(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        url = server.add("/cat.png", b"0123456789", etag="v1")
        response, body = await get(session, url, Range="bytes=2-4", If_Range='"v1"')
        assert (response.status, body, response.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
        response, body = await get(session, url, Range="bytes=2-4", If_Range='"v0"')
        assert (response.status, body) == (200, b"0123456789")
        response, body = await get(session, url, Range="bytes=10-")
        assert (response.status, response.headers["Content-Range"]) == (416, "bytes */10")


class TestScripts:
    async def test_a_script_is_used_up_then_the_standing_answer_then_the_plain_way(
        self, server: ImageServer, session: aiohttp.ClientSession
    ) -> None:
        url = server.add("/cat.png")
        server.script("/cat.png", Answer(status=503, headers={"Retry-After": "1"}), Answer(status=500))
        server.always("/cat.png", Answer(status=429))
        seen = [(await get(session, url))[0].status for _ in range(4)]
        server.always("/cat.png", None)
        assert [*seen, (await get(session, url))[0].status] == [503, 500, 429, 429, 200]
        assert [logged.status for logged in server.requests] == [503, 500, 429, 429, 200]

    async def test_an_error_carries_nothing_of_the_resource(
        self, server: ImageServer, session: aiohttp.ClientSession
    ) -> None:
        url = server.add("/cat.png", headers={"Cache-Control": "max-age=9"})
        server.script("/cat.png", Answer(status=503, headers={"Retry-After": "1"}))
        response, body = await get(session, url)
        assert body == b""
        assert set(response.headers) == {"Retry-After", "Date", "Content-Length", "Connection"}

    async def test_by_a_function_of_the_request(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        def only_with_a_token(request: LoggedRequest) -> Answer:
            return Answer() if request.headers.get("authorization") == "Bearer t" else Answer(status=401)

        url = server.add("/cat.png")
        server.always("/cat.png", only_with_a_token)
        assert (await get(session, url))[0].status == 401
        assert (await get(session, url, Authorization="Bearer t"))[0].status == 200

    async def test_a_path_with_nothing_but_a_script(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        url = server.always("/old", Answer.redirect("/new"))
        response, _ = await get(session, url)
        assert (response.status, response.headers["Location"]) == (302, "/new")
        url = server.always("/page", Answer(content=b"<html>sorry"))
        assert (await get(session, url))[1] == b"<html>sorry"

    async def test_conditions_ignored(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        url = server.add("/cat.png", etag="v1")
        server.always("/cat.png", Answer(ignores_conditions=True))
        assert (await get(session, url, If_None_Match='"v1"'))[0].status == 200

    async def test_a_304_to_anything_also_with_another_tag(
        self, server: ImageServer, session: aiohttp.ClientSession
    ) -> None:
        url = server.add("/cat.png", etag="v1")
        server.script("/cat.png", Answer.not_modified(), Answer.not_modified('"v2"'), Answer.not_modified(None))
        tags = []
        for _ in range(3):
            response, body = await get(session, url)
            assert (response.status, body) == (304, b"")
            tags.append(response.headers.get("ETag"))
        assert tags == ['"v1"', '"v2"', None]

    async def test_nodes_of_a_cluster_have_tags_of_their_own_for_the_same_bytes(
        self, server: ImageServer, session: aiohttp.ClientSession
    ) -> None:
        url = server.add("/cat.png")
        server.script("/cat.png", Answer(etag='"node-a"'), Answer(etag='"node-b"'), Answer(etag='"node-b"'))
        _, first = await get(session, url)
        response, second = await get(session, url, If_None_Match='"node-a"')
        assert (response.status, first == second) == (200, True)
        assert (await get(session, url, If_None_Match='"node-b"'))[0].status == 304

    async def test_a_delay(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        url = server.add("/cat.png")
        server.script("/cat.png", Answer(delay=0.05))
        started = asyncio.get_running_loop().time()
        await get(session, url)
        assert asyncio.get_running_loop().time() - started >= 0.05


class TestBodies:
    async def test_cut_before_its_announced_end(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        url = server.add("/cat.png")
        server.script("/cat.png", Answer(cut_at=100))
        async with session.get(url) as response:
            assert response.content_length == len(server.body("/cat.png"))
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        assert server.requests[0].body_bytes_sent == 100
        assert not server.requests[0].disconnected

    async def test_cut_before_its_last_chunk(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        url = server.add("/cat.png")
        server.script("/cat.png", Answer(cut_at=100, chunked=True))
        async with session.get(url) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()

    async def test_of_unknown_length(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        url = server.add("/cat.png")
        server.script("/cat.png", Answer(chunked=True, chunk_size=1000))
        response, body = await get(session, url)
        assert body == server.body("/cat.png")
        assert "Content-Length" not in response.headers

    async def test_without_end(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        url = server.always("/flood", Answer(content=b"x" * 1000, is_endless=True))
        received = 0
        async with session.get(url) as response:
            while received < 300_000:
                received += len(await response.content.readany())
        await server.wait_for_disconnect("/flood")
        assert server.requests[0].body_bytes_sent >= 300_000

    @pytest.mark.parametrize(("gate_at", "expected"), [(0, 0), (None, 5), (3, 3)])
    async def test_held_midway(
        self, server: ImageServer, session: aiohttp.ClientSession, gate_at: int | None, expected: int
    ) -> None:
        url = server.add("/cat.png", b"0123456789")
        gate = server.hold_body("/cat.png", at=gate_at)
        async with session.get(url) as response:
            await gate.arrived()
            begun = await response.content.readexactly(expected)
            reading = asyncio.create_task(response.read())
            await asyncio.sleep(0)
            assert not reading.done()
            gate.open()
            assert begun + await reading == b"0123456789"

    async def test_held_after_its_last_byte_before_its_end(
        self, server: ImageServer, session: aiohttp.ClientSession
    ) -> None:
        url = server.add("/cat.png", b"0123456789")
        gate = Gate()
        server.always("/cat.png", Answer(chunked=True, body_gate=gate, body_gate_at=99))
        async with session.get(url) as response:
            assert await response.content.readexactly(10) == b"0123456789"
            await gate.arrived()
            assert not response.content.at_eof()
            gate.open()
            assert await response.content.read() == b""

    async def test_raw_bytes_and_hanging_up(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        url = server.script(
            "/odd",
            Answer(raw=b"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\n\r\nhi"),
            Answer(raw=b"not HTTP at all\r\n\r\n"),
            Answer.hang_up(),
            Answer.hang_up(),
        )
        response, body = await get(session, url)
        assert (response.reason, body) == ("Fine", b"hi")
        with pytest.raises(aiohttp.ClientResponseError):
            await get(session, url)
        # aiohttp asks a second time by itself when the connection is closed without an answer.
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await get(session, url)
        assert server.count("/odd") == 4


class TestHolding:
    async def test_requests_wait_at_the_gate_until_it_opens(
        self, server: ImageServer, session: aiohttp.ClientSession
    ) -> None:
        url = server.add("/cat.png")
        gate = server.hold("/cat.png")
        calls = [asyncio.create_task(get(session, url)) for _ in range(3)]
        await gate.arrived(3)
        assert (gate.held, server.in_flight, server.count()) == (3, 3, 3)
        assert not any(call.done() for call in calls)
        gate.open()
        assert [response.status for response, _ in await asyncio.gather(*calls)] == [200] * 3
        await server.wait_until_idle()
        assert (gate.held, server.in_flight, server.peak_in_flight) == (0, 0, 3)
        await get(session, url)
        assert gate.arrivals == 4

    async def test_what_is_replaced_meanwhile_is_what_comes(
        self, server: ImageServer, session: aiohttp.ClientSession
    ) -> None:
        url = server.add("/cat.png", b"old")
        gate = server.hold("/cat.png")
        call = asyncio.create_task(get(session, url))
        await gate.arrived()
        server.replace("/cat.png", b"new")
        gate.open()
        assert (await call)[1] == b"new"

    async def test_a_client_that_leaves_is_seen(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        url = server.add("/cat.png")
        gate = server.hold("/cat.png")
        call = asyncio.create_task(get(session, url))
        await gate.arrived()
        assert not server.requests[0].disconnected
        call.cancel()
        await server.wait_for_disconnect("/cat.png")
        assert gate.held == 0
        assert server.requests[0].is_done
        assert server.requests[0].status == 0

    async def test_a_client_that_leaves_midway_is_seen(
        self, server: ImageServer, session: aiohttp.ClientSession
    ) -> None:
        url = server.add("/cat.png")
        gate = server.hold_body("/cat.png")
        async with session.get(url):
            await gate.arrived()
        await server.wait_for_disconnect("/cat.png")
        assert server.requests[0].status == 200

    async def test_waiting_in_vain_says_what_was_seen(
        self, server: ImageServer, session: aiohttp.ClientSession
    ) -> None:
        gate = server.hold("/cat.png")
        with pytest.raises(TimeoutError, match="0 of 2 came"):
            await gate.arrived(2, timeout=0.01)
        await get(session, server.add("/dog.png"))
        with pytest.raises(TimeoutError, match=r"seen: GET /dog\.png 200"):
            await server.wait_for_requests(1, "/cat.png", timeout=0.01)


class TestLog:
    async def test_what_was_asked_and_sent(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        url = server.add("/cat.png")
        _, body = await get(session, url + "?x=1", X_Mine="yes")
        (logged,) = server.requests_for("/cat.png")
        assert (logged.method, logged.path, logged.target) == ("GET", "/cat.png", "/cat.png?x=1")
        assert logged.headers["x-mine"] == "yes"
        assert logged.body_bytes_sent == server.bytes_sent == len(body)

    async def test_reset_forgets_requests_and_keeps_the_rest(
        self, server: ImageServer, session: aiohttp.ClientSession
    ) -> None:
        url = server.add("/cat.png")
        await get(session, url)
        server.reset()
        assert (server.count(), server.bytes_sent, server.requests) == (0, 0, [])
        assert (await get(session, url))[0].status == 200

    async def test_a_reused_connection_is_told(self, server: ImageServer) -> None:
        url = server.add("/cat.png")
        async with aiohttp.ClientSession() as session:
            for _ in range(2):
                await get(session, url)
        first, second = server.requests
        assert first.connection == second.connection != 0

    async def test_what_was_never_added_is_named(self, server: ImageServer) -> None:
        with pytest.raises(LookupError, match=r"/dog\.png"):
            server.touch("/dog.png")

    async def test_removed_is_gone(self, server: ImageServer, session: aiohttp.ClientSession) -> None:
        url = server.add("/cat.png")
        server.remove("/cat.png")
        assert (await get(session, url))[0].status == 404


class TestLifetime:
    async def test_a_url_before_the_start_is_refused(self) -> None:
        with pytest.raises(RuntimeError, match="async with"):
            ImageServer().add("/cat.png")

    async def test_down_and_up_again_on_the_same_port(self, session: aiohttp.ClientSession) -> None:
        server = ImageServer()
        await server.start()
        url = server.add("/cat.png")
        await server.stop()
        with pytest.raises(aiohttp.ClientConnectorError):
            await get(session, url)
        await server.start()
        assert (await get(session, url))[0].status == 200
        await server.stop()
        await server.stop()

    async def test_a_taken_port_is_an_os_error(self, server: ImageServer) -> None:
        port = int(server.origin.rpartition(":")[2])
        with pytest.raises(OSError, match="address"):
            await ImageServer(port=port).start()

    async def test_stopping_ends_held_requests_at_once_and_they_did_not_leave(
        self, session: aiohttp.ClientSession
    ) -> None:
        async with asyncio.timeout(5), ImageServer() as server:
            url = server.add("/cat.png")
            gate = server.hold("/cat.png")
            call = asyncio.create_task(get(session, url))
            await gate.arrived()
        with pytest.raises(aiohttp.ClientError):
            await call
        assert not server.requests[0].disconnected

    async def test_a_client_that_comes_while_it_stops_makes_no_noise(self) -> None:
        # asyncio before 3.13 fails on a connection accepted in the turn in which the listener is closed.
        noise: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
        server = ImageServer()
        await server.start()
        with socket.socket() as client:
            client.connect(("127.0.0.1", int(server.origin.rpartition(":")[2])))
            await asyncio.sleep(0)
            await server.stop()
        await asyncio.sleep(0)
        assert noise == []

    async def test_used_from_another_loop(self) -> None:
        with ImageServer.in_thread() as server:
            url = server.add("/cat.png")
            gate = server.hold("/cat.png")
            async with aiohttp.ClientSession() as session:
                call = asyncio.create_task(get(session, url))
                await gate.arrived()
                gate.open()
                assert (await call)[0].status == 200
                await server.wait_for_requests(1)

    def test_used_without_a_loop(self) -> None:
        with ImageServer.in_thread() as server, urllib.request.urlopen(server.add("/cat.png")) as response:
            assert response.read() == server.body("/cat.png")

    async def test_over_tls(self, tmp_path: Path) -> None:
        pem = tmp_path / "certificate.pem"
        pem.write_text(certificate_for(*LOOPBACK), "ascii")
        serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        serving.load_cert_chain(pem)
        trusting = ssl.create_default_context(cafile=pem)
        async with (
            ImageServer(ssl=serving) as server,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session,
        ):
            url = server.add("/cat.png")
            assert url.startswith("https://")
            assert (await get(session, url))[0].status == 200
