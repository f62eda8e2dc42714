"""A faulty disk fails what it is told to fail, under its folder and nowhere else, and works again afterwards."""

import builtins
import errno
import io
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from imagecache.testing import FaultyDisk
from imagecache.testing.disk_rule import Fault
from imagecache.testing.faulty_sqlite import verb_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "cache"
    made.mkdir()
    (made / "there").write_bytes(b"content")
    return made


def write_low_level(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(descriptor, b"x")
    finally:
        os.close(descriptor)


OPERATIONS: dict[str, Callable[[Path], object]] = {
    "open": lambda folder: (folder / "there").read_bytes(),
    "read": lambda folder: (folder / "there").read_bytes(),
    "write": lambda folder: (folder / "new").write_bytes(b"x"),
    "replace": lambda folder: (folder / "there").replace(folder / "new"),
    "rename": lambda folder: (folder / "there").rename(folder / "new"),
    "mkdir": lambda folder: (folder / "new").mkdir(),
    "unlink": lambda folder: (folder / "there").unlink(),
    "stat": lambda folder: (folder / "there").stat(),
    "list": lambda folder: list(folder.iterdir()),
    "chmod": lambda folder: (folder / "there").chmod(0o600),
    "w*": lambda folder: write_low_level(folder / "new"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", ["ENOSPC", "EIO", "EACCES", "EROFS"])
def test_a_named_file_operation_fails_with_the_error_of_the_system(folder: Path, operation: str, fault: Fault) -> None:
    with FaultyDisk(folder) as disk:
        disk.fail(operation, fault)
        with pytest.raises(OSError, match=r".") as caught:
            OPERATIONS[operation](folder)
        assert caught.value.errno == getattr(errno, fault)
        disk.heal()
        OPERATIONS[operation](folder)


def test_the_error_is_of_the_class_that_the_system_raises(folder: Path) -> None:
    with FaultyDisk(folder) as disk:
        disk.fail("open", "EACCES")
        with pytest.raises(PermissionError):
            (folder / "there").read_bytes()
        disk.heal()
        disk.fail("open", "ENOENT")
        with pytest.raises(FileNotFoundError):
            (folder / "there").read_bytes()


def test_what_lies_elsewhere_is_left_alone(folder: Path, tmp_path: Path) -> None:
    beside = tmp_path / "cache-beside"
    with FaultyDisk(folder) as disk:
        disk.fail("*")
        beside.write_bytes(b"x")
        assert beside.read_bytes() == b"x"
        with sqlite3.connect(tmp_path / "other.db") as connection:
            connection.execute("CREATE TABLE t (x)")
        connection.close()
        assert disk.calls == []


def test_files_opened_by_descriptor_are_known(folder: Path) -> None:
    with FaultyDisk(folder) as disk:
        disk.fail("write", "ENOSPC")
        with pytest.raises(OSError, match="No space"):
            write_low_level(folder / "new")
        descriptor = os.open(folder / "newer", os.O_WRONLY | os.O_CREAT)
        with os.fdopen(descriptor, "wb") as file, pytest.raises(OSError, match="No space"):
            file.write(b"x")


def test_a_number_that_was_closed_is_no_longer_ours(folder: Path, tmp_path: Path) -> None:
    with FaultyDisk(folder) as disk:
        ours = os.open(folder / "there", os.O_RDONLY)
        os.close(ours)
        disk.fail("read")
        other = os.open(__file__, os.O_RDONLY)
        assert other == ours
        os.read(other, 1)
        os.close(other)


def test_after_some_and_so_many_times(folder: Path) -> None:
    with FaultyDisk(folder) as disk:
        rule = disk.fail("open", after=1, times=2)
        failed = []
        for number in range(5):
            try:
                (folder / "there").read_bytes()
            except OSError:
                failed.append(number)
        assert (failed, rule.calls) == ([1, 2], 5)


def test_by_the_name_of_the_file(folder: Path) -> None:
    with FaultyDisk(folder) as disk:
        disk.fail("open", name="*.lock")
        (folder / "there").read_bytes()
        with pytest.raises(OSError, match=r"a\.lock"):
            (folder / "a.lock").touch()


def test_one_rule_can_be_removed(folder: Path) -> None:
    with FaultyDisk(folder) as disk:
        rule = disk.fail("open")
        disk.fail("mkdir")
        rule.remove()
        (folder / "there").read_bytes()
        with pytest.raises(OSError, match="error"):
            (folder / "new").mkdir()


def test_calls_are_recorded_so_that_each_can_be_made_to_fail_in_turn(folder: Path) -> None:
    def work(name: str) -> None:
        (folder / name).mkdir()
        (folder / name / "a").write_bytes(b"x")

    with FaultyDisk(folder) as disk:
        work("sub")
        seen = [(call.operation, Path(call.path).name) for call in disk.calls]
    assert seen == [("mkdir", "sub"), ("open", "a"), ("write", "a")]
    for number in range(len(seen)):
        with FaultyDisk(folder) as disk:
            disk.fail("*", "ENOSPC", after=number, times=1)
            with pytest.raises(OSError, match="No space"):
                work(f"sub{number}")


def test_a_disk_that_hangs_holds_its_caller_until_it_is_released(folder: Path) -> None:
    with FaultyDisk(folder) as disk:
        rule = disk.hold("open")
        worker = threading.Thread(target=(folder / "there").read_bytes)
        worker.start()
        rule.wait_until_met()
        assert worker.is_alive()
        rule.remove()
        worker.join(10)
        assert not worker.is_alive()


def test_waiting_in_vain_for_a_call_says_so(folder: Path) -> None:
    with FaultyDisk(folder) as disk, pytest.raises(TimeoutError, match="0 of 1 'open'"):
        disk.hold("open").wait_until_met(timeout=0.01)


@pytest.mark.parametrize(
    ("fault", "code", "kind"),
    [
        ("ENOSPC", "SQLITE_FULL", sqlite3.OperationalError),
        ("EIO", "SQLITE_IOERR", sqlite3.OperationalError),
        ("EROFS", "SQLITE_READONLY", sqlite3.OperationalError),
        ("locked", "SQLITE_BUSY", sqlite3.OperationalError),
        ("corrupt", "SQLITE_CORRUPT", sqlite3.DatabaseError),
    ],
)
def test_statements_fail_with_sqlites_own_errors(
    folder: Path, fault: Fault, code: str, kind: type[sqlite3.Error]
) -> None:
    with FaultyDisk(folder) as disk:
        connection = sqlite3.connect(folder / "index.sqlite")
        connection.execute("CREATE TABLE t (x)")
        disk.fail("sqlite.insert", fault)
        with pytest.raises(kind) as caught:
            connection.executemany("  insert INTO t VALUES (?)", [(1,)])
        assert caught.value.sqlite_errorname == code
        assert caught.value.sqlite_errorcode == getattr(sqlite3, code)
        disk.heal()
        connection.executemany("INSERT INTO t VALUES (?)", [(1,)])
        connection.close()


def test_every_way_to_a_statement_is_met_once(folder: Path) -> None:
    with FaultyDisk(folder) as disk:
        connection = sqlite3.connect(f"file:{(folder / 'index.sqlite').as_posix()}", uri=True)
        with connection:
            connection.execute("CREATE TABLE t (x)")
        connection.cursor().execute("SELECT 1").fetchall()
        connection.executescript("DELETE FROM t;")
        connection.commit()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("COMMIT")
        connection.close()
        seen = [call.operation.removeprefix("sqlite.") for call in disk.calls]
    assert seen == ["connect", "create", "commit", "select", "delete", "commit", "begin", "commit", "close"]


def test_a_factory_of_the_callers_own_is_kept(folder: Path) -> None:
    class Mine(sqlite3.Connection):
        pass

    with FaultyDisk(folder) as disk:
        connection = sqlite3.connect(folder / "index.sqlite", factory=Mine)
        assert isinstance(connection, Mine)
        disk.fail("sqlite.commit", "locked")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            connection.commit()
        disk.heal()
        connection.close()


def test_connecting_can_fail(folder: Path) -> None:
    with FaultyDisk(folder) as disk:
        disk.fail("sqlite.connect", "EACCES")
        with pytest.raises(sqlite3.OperationalError, match="unable to open"):
            sqlite3.connect(folder / "index.sqlite")


def test_afterwards_everything_is_as_it_was(folder: Path) -> None:
    before = (os.open, os.write, os.close, io.open, builtins.open, sqlite3.connect)
    with FaultyDisk(folder) as disk:
        disk.fail("*")
        assert os.open is not before[0]
    assert (os.open, os.write, os.close, io.open, builtins.open, sqlite3.connect) == before
    (folder / "there").read_bytes()


def test_an_unknown_fault_is_refused(folder: Path) -> None:
    with FaultyDisk(folder) as disk, pytest.raises(ValueError, match="ENOSPC"):
        disk.fail("open", "EWHAT")  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize(
    ("statement", "verb"),
    [("SELECT 1", "select"), (" \n-- why\n/* a\nb */ Begin", "begin"), ("", ""), ("-- only", ""), (";", "")],
)
def test_the_verb_of_a_statement(statement: str, verb: str) -> None:
    assert verb_of(statement) == verb


def test_a_write_that_is_cut_takes_half(folder: Path) -> None:
    with FaultyDisk(folder) as disk:
        disk.cut(times=1)
        descriptor = os.open(folder / "new", os.O_WRONLY | os.O_CREAT)
        try:
            assert os.write(descriptor, b"12345678") == 4
            assert os.write(descriptor, b"5678") == 4
        finally:
            os.close(descriptor)
    assert (folder / "new").read_bytes() == b"12345678"


def test_a_slow_disk_does_the_same_later(folder: Path) -> None:
    with FaultyDisk(folder) as disk:
        rule = disk.delay("open", 0.001, times=1)
        assert (folder / "there").read_bytes() == b"content"
        assert rule.calls == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the process that is killed is a fork")
def test_a_process_is_killed_as_it_comes_to_an_operation(folder: Path) -> None:
    child = os.fork()
    if child == 0:
        with FaultyDisk(folder) as disk:
            disk.kill("write", after=1)
            (folder / "first").write_bytes(b"x")
            (folder / "second").write_bytes(b"x")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert (folder / "first").read_bytes() == b"x"
    assert (folder / "second").read_bytes() == b""
