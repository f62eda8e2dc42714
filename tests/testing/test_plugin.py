"""The pytest plugin: its fixtures work in every mode of pytest-asyncio, and loading it costs nothing."""

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

USES_BOTH = """
    import imagecache
    import pytest

    {mark}
    async def test_default_manager(image_cache, image_server, tmp_path):
        url = image_server.add("/cat.png")
        image = await imagecache.fetch_image(url)
        again = await image_cache.fetch(url)
        assert again.served_from is imagecache.ServedFrom.MEMORY
        assert image_server.count() == 1
        # The first image does not wait for its folder.
        await image_cache.cache.flush()
        assert list(tmp_path.rglob("*.sqlite"))

    {mark}
    async def test_another_begins_with_nothing(image_cache, image_server):
        assert image_server.count() == 0
        assert await image_cache.cache.size() == 0
"""


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_the_fixtures_work(pytester: pytest.Pytester, plugin_arguments: list[str], mode: str) -> None:
    pytester.makepyfile(USES_BOTH.format(mark="@pytest.mark.asyncio" if mode == "strict" else ""))
    result = pytester.runpytest_subprocess(*plugin_arguments, "-W", "error", "-o", f"asyncio_mode={mode}")
    result.assert_outcomes(passed=2)


def test_afterwards_the_default_manager_is_the_programs_own(
    pytester: pytest.Pytester, plugin_arguments: list[str]
) -> None:
    pytester.makepyfile(
        """
        from imagecache.default import is_default_overridden

        async def test_with(image_cache):
            assert is_default_overridden()

        def test_without():
            assert not is_default_overridden()
        """
    )
    result = pytester.runpytest_subprocess(*plugin_arguments, "-o", "asyncio_mode=auto")
    result.assert_outcomes(passed=2)


def loaded_by(statement: str) -> set[str]:
    program = f"{statement}\nimport sys\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import imagecache.testing", "import imagecache.testing.plugin"])
@pytest.mark.usefixtures("plugin_arguments")
def test_importing_loads_neither_aiohttp_nor_pillow(statement: str) -> None:
    loaded = loaded_by(statement)
    assert "imagecache.testing" in loaded
    assert not {"aiohttp", "PIL", "sqlite3", "imagecache.manager"} & loaded


def test_every_name_is_there_and_no_other() -> None:
    from imagecache import testing

    assert {name for name in testing.__all__ if getattr(testing, name).__name__ == name} == set(testing.__all__)
    assert set(testing.__all__) <= set(dir(testing))
    with pytest.raises(AttributeError, match="ImageSever"):
        _ = testing.ImageSever  # type: ignore[attr-defined]
