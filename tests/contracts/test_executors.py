import functools
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from harness.host import need
from harness.img import remove_as_mapped_root
from harness.prepared import command_in
from harness.situations import UNMODIFIED, Unmodified
from img_core.spec import Executor
from img_core.testing.contracts.executor import ExecutorContract, unusual_number
from img_core.testing.executor_lab import Laboratory
from img_core.testing.processes import eventually, processes_with
from img_executor_chroot._executor import ChrootExecutor
from img_executor_runc._executor import RuncExecutor
from img_executor_swap._executor import SwapExecutor
from img_executor_userns._executor import UsernsExecutor

pytestmark = pytest.mark.rootless


class TestUserns(ExecutorContract):
    executor = UsernsExecutor

    def test_a_device_that_a_step_makes_opens_nothing(self, lab: Laboratory) -> None:
        """Real root can make those of the host's disks."""
        made = lab.shell(
            "for place in / /dev/; do mknod ${place}made c 1 5 && head -c 4 ${place}made; done 2>/dev/null"
        )
        assert made.output == b""
        assert "nodev" in lab.shell("grep ' /dev ' /proc/self/mountinfo").text.split()[5].split(",")


class TestRunc(ExecutorContract):
    executor = RuncExecutor
    options: ClassVar = {"runtime": "runc"}
    budget = 1.0


class TestCrun(ExecutorContract):
    executor = RuncExecutor
    options: ClassVar = {"runtime": "crun"}
    budget = 1.0


#: what only namespaces and mounts give, by test of the contract
CHROOT_CANNOT = {
    "test_host_name": "the host name is the container's",
    "test_set_user_id_programs_keep_working": "a filter without SYS_ADMIN takes no_new_privs",
    "test_a_set_user_id_program_has_the_ids_of_its_owner": "a filter without SYS_ADMIN takes no_new_privs",
    "test_capabilities_are_bounded": "a step lacks two more, see below",
    "test_insecure_lifts_the_sandbox": "it takes a privileged container",
    "test_shared_memory_has_the_given_size": "it is a directory",
    "test_tmpfs_has_the_given_size_and_mode": "it is a directory; for its mode see below",
    "test_only_processes_of_the_step_are_visible": "process ids are the container's, see below",
    "test_sys_is_read_only_with_everything_below": "nothing is mounted, see below",
    "test_private_network_has_only_loopback": "there are no sockets but unix ones, see below",
    "test_given_network_namespace_is_joined": "no namespace can be made",
    "test_bind_mounts": "they are writable, see below",
    "test_only_the_three_standard_descriptors_are_open": "a directory of /proc lists what there was when it was opened, see below",
    "test_host_files_are_out_of_sight": "the first process is the container's, see below",
    "test_nothing_is_left_when_the_builder_is_killed": "a tree serves one step at a time, see below",
    "test_renaming_works_as_ever": "what is put into /sys is gone afterwards, but not refused",
}


#: what only namespaces, mounts and a root directory of its own give, by test of the contract
SWAP_CANNOT = {
    **{
        name: reason
        for name, reason in CHROOT_CANNOT.items()
        if name
        not in (
            "test_set_user_id_programs_keep_working",
            "test_only_the_three_standard_descriptors_are_open",
            "test_renaming_works_as_ever",
        )
    },
    "test_a_mount_at_a_place_of_the_executors_replaces_it": "they are the container's own",
    "test_descriptors_do_not_leak": "it looks into the container from outside, see below",
}

_LABORATORY = [b"-m", b"img_core.testing.executor_lab"]


def _words(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def _descendants(pid: int) -> Iterator[int]:
    """Give the processes below *pid*, parents first."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from _descendants(child)


class ContainerLaboratory(Laboratory):
    """A laboratory in a container as engines start it by default; something else is its first process."""

    def kill(self) -> None:
        builder = next(pid for pid in _descendants(self.process.pid) if _words(pid)[1:3] == _LABORATORY)
        os.kill(builder, signal.SIGKILL)
        KILLED.append(self)

    def reap(self) -> None:
        """Let the container end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._reap()
        remove_as_mapped_root(Path(self.identity["scratch"]))


KILLED: list[ContainerLaboratory] = []
LAYERS: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def _no_layer_stays() -> Iterator[None]:
    yield
    while LAYERS:
        remove_as_mapped_root(LAYERS.pop())


def laboratory_in_container(executor: type[Executor], shared: str, **changes: object) -> ContainerLaboratory:
    """Return one in a container that is *changes* from the one that `docker run` makes, and sees the directory *shared*."""
    root, prefix = str(Path(__file__).parents[2]), sys.prefix
    seen = (root, *([] if prefix == "/usr" else [prefix]))
    layer = tempfile.mkdtemp(prefix="img-box-")
    LAYERS.append(Path(layer))
    box = Unmodified(layer, visible=seen, volumes=((shared, shared),)).but(**changes)
    # The first process must outlive a killed builder, or the end of the container would be the end of its steps.
    program = shlex.join(command_in([sys.executable])) if changes.get("prepared") else sys.executable
    shell = f'shift; {program} "$@"; [ $? = 137 ] && cat > /dev/null'
    name = f"{executor.__module__}:{executor.__qualname__}"
    return ContainerLaboratory(name, "container", prefix=box.wrap("sh", "-c", shell, "sh"))


@functools.cache
def shared_directory() -> Path:
    """Return a temporary directory, the same one every time."""
    path = tempfile.mkdtemp(prefix="img-shared-")
    LAYERS.append(Path(path))
    return Path(path)


class InContainer(ExecutorContract):
    """The contract in a container, where one laboratory serves the tests of a class."""

    @pytest.fixture(autouse=True)
    @classmethod
    def _containers_of_killed_builders_end(cls) -> Iterator[None]:
        yield
        while KILLED:
            KILLED.pop().reap()

    @pytest.fixture(scope="class", params=["container"])
    @classmethod
    def class_lab(cls, request: pytest.FixtureRequest) -> Iterator[Laboratory]:
        lab = cls.make_lab(request.param)
        yield lab
        lab.close()

    def test_no_process_is_left_when_the_builder_is_killed(self) -> None:
        lab = self.make_lab("container")
        seconds = unusual_number()
        process = {"args": ["sh", "-c", f"setsid sleep {seconds} & sleep {seconds}"], "env": [["PATH", "/bin"]]}
        lab.ask("background", process={**process, "uid": 1000, "gid": 1000})
        eventually(lambda: len(processes_with(seconds)) >= 2)
        lab.kill()
        eventually(lambda: processes_with(seconds) == [])


class TestChroot(InContainer):
    executor = ChrootExecutor

    @classmethod
    def make_lab(cls, mapping: str) -> Laboratory:
        need("runc")
        del mapping
        return laboratory_in_container(cls.executor, tempfile.gettempdir())

    def test_a_step_has_less_than_the_builder(self, lab: Laboratory) -> None:
        text = lab.run("grep", "-E", "^(Cap|NoNew|Seccomp:)", "/proc/self/status").text
        found = dict(line.split(":\t") for line in text.splitlines())
        assert (
            found["CapBnd"] == found["CapEff"] == found["CapPrm"] == "00000000a00025fb"
            or found["CapBnd"] == "00000000a00025fb"
        )
        assert found["NoNewPrivs"] == "1"
        assert found["Seccomp"] == "2"

    def test_the_first_process_of_the_container_is_not_there(self, lab: Laboratory) -> None:
        assert lab.run("ls", "/").text.split() == ["bin", "dev", "proc", "sys"]
        assert lab.shell("ls /proc/1; cat /proc/1/environ; ls /proc/1/root/").output == b""
        assert len(lab.shell("echo /proc/[0-9]*").text.split()) == 1

    def test_mounts_are_there_and_gone_afterwards(self, lab: Laboratory, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("content")
        mounts = [
            {"target": "/ro", "source": str(tmp_path)},
            {"target": "/rw", "source": str(tmp_path / "lent"), "readonly": False},
            {"target": "/etc/single", "source": str(tmp_path / "file")},
            {"target": "/scratch", "kind": "tmpfs", "readonly": False, "mode": 0o1770},
        ]
        (tmp_path / "lent").mkdir()
        script = "cat /ro/file /etc/single; echo no > /ro/file; rm /etc/single; echo new > /rw/new; stat -c %a /scratch; rm -r /scratch"
        assert lab.shell(script, mounts=mounts).text == "contentcontent1770"
        assert lab.ask("list") == []
        assert (tmp_path / "lent/new").read_text() == "new\n"
        assert (tmp_path / "file").read_text() == "content"

    def test_without_a_network_there_are_unix_sockets_only(self, lab: Laboratory) -> None:
        assert b"not supported" in lab.run("ping", "-c", "1", "127.0.0.1", network="none").errors
        assert lab.run("ip", "link", network="none").code != 0


class TestSwap(InContainer):
    executor = SwapExecutor

    @classmethod
    def make_lab(cls, mapping: str) -> Laboratory:
        need("runc")
        del mapping
        return laboratory_in_container(cls.executor, str(shared_directory()), **UNMODIFIED["cri-o-root"])

    @pytest.fixture
    def tmp_path(self) -> Path:
        """Give a directory that the container sees; all of the temporary ones would be a volume at a place that images have."""
        return Path(tempfile.mkdtemp(dir=shared_directory()))

    def test_no_descriptor_leaks(self, lab: Laboratory, tmp_path: Path) -> None:
        mounts = [{"target": "/data", "source": str(tmp_path)}]
        lab.run("true", mounts=mounts)
        before = lab.ask("descriptors")
        assert lab.run("true", mounts=mounts).code == 0
        assert lab.run("no-such-program", mounts=mounts).code == 127
        assert lab.run("true", mounts=[{"target": "/sys/x", "source": str(tmp_path)}]).error
        assert lab.ask("descriptors") == before

    def test_its_root_is_the_root_directory(self, lab: Laboratory) -> None:
        assert lab.run("sh", "-c", "echo made > /made; chmod 711 /; ls /").text.split() == [
            "bin",
            "dev",
            "made",
            "proc",
            "sys",
        ]
        assert lab.run("ls", "/").text.split() == ["bin", "dev", "made", "proc", "sys"]
        assert lab.run("stat", "-c", "%a", "/").text == "711"

    def test_steps_take_turns(self, lab: Laboratory) -> None:
        alone = {"args": ["sh", "-c", "echo > /first; sleep 0.1; rm /first"], "env": [["PATH", "/bin"]]}
        lab.ask("background", process=alone)
        for _ in range(5):
            assert lab.shell("! ls /first 2> /dev/null").code == 0

    def test_without_a_network_there_are_unix_sockets_only(self, lab: Laboratory) -> None:
        assert b"not supported" in lab.run("ping", "-c", "1", "127.0.0.1", network="none").errors
        assert lab.run("true", network="none").code == 0

    def test_mounts_are_there_and_gone_afterwards(self, lab: Laboratory, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("content")
        mounts = [
            {"target": "/ro", "source": str(tmp_path)},
            {"target": "/etc/single", "source": str(tmp_path / "file")},
            {"target": "/scratch", "kind": "tmpfs", "readonly": False, "mode": 0o1770},
        ]
        script = "cat /ro/file /etc/single; echo no > /ro/file; rm /etc/single; stat -c %a /scratch; rm -r /scratch"
        assert lab.shell(script, mounts=mounts).text == "contentcontent1770"
        assert lab.ask("list") == []
        assert (tmp_path / "file").read_text() == "content"


for test in CHROOT_CANNOT:
    setattr(TestChroot, test, None)
for test in SWAP_CANNOT:
    setattr(TestSwap, test, None)
