import ctypes
import errno
import os
import select
import subprocess
from pathlib import Path

import pytest

from img_core.linux import syscalls


def test_missing_system_call_is_explained() -> None:
    error = syscalls.os_error(errno.ENOSYS, "mount_setattr")
    assert error.errno == errno.ENOSYS
    assert "Linux 5.12" in str(error)


def test_permission_error_is_explained_and_names_the_path() -> None:
    error = syscalls.os_error(errno.EPERM, "mount", b"/sys")
    assert isinstance(error, PermissionError)
    assert "capability" in str(error)
    assert error.filename == "/sys"


def test_failed_call_names_itself_and_its_path() -> None:
    with pytest.raises(FileNotFoundError, match=r"open_tree.*absent"):
        syscalls.open_tree(syscalls.AT_FDCWD, "/absent/thing", 0)


def test_openat2_stays_in_the_root(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("outside")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/up").symlink_to("../../../../secret")
    (root / "secret").write_text("inside")
    root_fd = os.open(root, os.O_PATH)
    fd = syscalls.openat2(root_fd, "etc/up", os.O_RDONLY)
    assert os.read(fd, 100) == b"inside"
    assert os.get_inheritable(fd) is False
    os.close(fd)
    with pytest.raises(OSError, match="openat2") as caught:
        syscalls.openat2(root_fd, "etc/up", os.O_RDONLY, resolve=syscalls.RESOLVE_NO_SYMLINKS)
    assert caught.value.errno == errno.ELOOP
    os.close(root_fd)


def test_pidfd_tells_the_end_and_carries_signals() -> None:
    process = subprocess.Popen(["sleep", "100"])
    pidfd = syscalls.pidfd_open(process.pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(0) == []
    syscalls.pidfd_send_signal(pidfd, 9)
    assert poll.poll(5000)
    assert process.wait() == -9
    with pytest.raises(ProcessLookupError):
        syscalls.pidfd_send_signal(pidfd, 9)
    os.close(pidfd)


def test_close_range_closes_only_the_range() -> None:
    first, second, third = os.open("/", os.O_PATH), os.open("/", os.O_PATH), os.open("/", os.O_PATH)
    low, high = sorted((first, third))[0], max(first, second, third)
    syscalls.close_range(high, high)
    os.fstat(low)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(high)
    for fd in {first, second, third} - {high}:
        os.close(fd)


def test_capability_numbers_match_their_names() -> None:
    from img_core.linux import sandbox

    assert sandbox.ALL_CAPABILITIES[syscalls.CAP_SYS_ADMIN] == "SYS_ADMIN"
    assert sandbox.ALL_CAPABILITIES[syscalls.CAP_SETUID] == "SETUID"
    assert sandbox.DEFAULT_CAPABILITY_MASK == 0xA80425FB


def test_a_text_in_memory_is_read_up_to_its_end_and_not_where_it_has_none() -> None:
    read = syscalls.MemoryReader(ctypes.create_string_buffer(4096), ctypes.c_int(os.getpid())).texts(8)
    texts = [ctypes.create_string_buffer(content) for content in (b"short", b"", b"eight???", b"one\0two")]
    assert [read(ctypes.addressof(each)) for each in texts] == [b"short", b"", None, b"one"]
    assert read(1) is None


def test_what_cannot_be_written_to_memory_is_said() -> None:
    content, place = ctypes.create_string_buffer(b"content"), ctypes.create_string_buffer(8)
    write = syscalls.MemoryWriter(content, 4, ctypes.c_int(os.getpid())).writing()
    assert (write(ctypes.addressof(place)), place.value, write(1)) == (True, b"cont", False)
