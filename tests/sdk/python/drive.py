"""Drives a server through every operation that exists here, by upstream's Python client.

Environment: HYPEMAN_BASE_URL, HYPEMAN_API_KEY, and IMAGE, the name of an image with busybox in it,
in a registry that wants REGISTRY_USER and REGISTRY_PASSWORD.
"""

import hashlib
import os
import pathlib
import tempfile
import time

import hypeman
import pytest
from hypeman.lib import cp_from_instance, cp_to_instance, exec

IMAGE = os.environ["IMAGE"]
CREDENTIALS = {"username": os.environ["REGISTRY_USER"], "password": os.environ["REGISTRY_PASSWORD"]}
PROGRAM = ["sh", "-c", "trap 'exit 0' TERM; echo hello; i=0; while sleep 0.1; do i=$((i+1)); echo line $i; done"]


class Requests:
    """Counts requests, to show that no answer makes the client try again."""

    def __init__(self):
        self.count = 0

    def __call__(self, _):
        self.count += 1


requests = Requests()
client = hypeman.Hypeman(http_client=hypeman.DefaultHttpxClient(event_hooks={"request": [requests]}))


def refused(kind, code, call):
    """Expects an error of this class with this code, and one request."""
    before = requests.count
    with pytest.raises(kind) as error:
        call()
    assert error.value.body["code"] == code, error.value.body
    assert error.value.body["message"]
    assert requests.count == before + 1, "the client has tried again"


def wait(instance, state="Running"):
    answer = client.instances.wait(instance, state=state, api_timeout="120s")
    assert (answer.state, answer.timed_out) == (state, False)


def create(name, **options):
    options = {"size": "256MB", "overlay_size": "1GB", "network": {"enabled": False}, "cmd": PROGRAM, **options}
    return client.instances.create(name=name, image=IMAGE, **options)


@pytest.fixture(scope="module")
def image():
    """Pulls the image; the client asks until it is there."""
    asked = client.images.create(name=IMAGE, tags={"of": IMAGE}, credentials=CREDENTIALS)
    assert asked.status in ("pending", "pulling", "converting", "ready")
    pinned = IMAGE.rsplit(":", 1)[0] + "@" + asked.digest
    deadline = time.monotonic() + 60
    while client.images.get(pinned).status != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield client.images.get(IMAGE)
    client.images.delete(IMAGE)


@pytest.fixture(scope="module")
def vm(image):
    instance = create("py-vm", tags={"team": "a b", "env": "x"}, env={"GREETING": "hi"})
    wait(instance.id)
    yield instance.id
    client.instances.delete(instance.id)


def test_system(image):
    assert client.health.check().status == "ok"
    capabilities = client.capabilities.get()
    assert capabilities.default_runtime.name == "qemu" and capabilities.default_runtime.available
    assert "linux/amd64" in capabilities.images.platforms
    resources = client.resources.get()
    assert resources.memory.capacity > 0 and resources.disk.capacity > 0
    refused(hypeman.AuthenticationError, "Unauthorized", hypeman.Hypeman(api_key="x", http_client=client._client).images.list)


def test_images(image):
    assert image.status == "ready" and image.size_bytes > 0 and image.cmd == ["/bin/sh"]
    assert [found.name for found in client.images.list(tags={"of": IMAGE})] == [image.name]
    assert client.images.list(tags={"of": "another"}) == []
    tagged = client.images.tag(IMAGE, target="py/other:v1")
    assert (tagged.name, tagged.digest) == ("docker.io/py/other:v1", image.digest)
    client.images.delete("py/other:v1")
    refused(hypeman.NotFoundError, "not_found", lambda: client.images.get("py/other:v1"))
    refused(hypeman.BadRequestError, "invalid_name", lambda: client.images.get("NO SUCH"))
    missing = IMAGE.rsplit(":", 1)[0] + ":missing"
    refused(hypeman.NotFoundError, "not_found", lambda: client.images.create(name=missing, credentials=CREDENTIALS))


def test_instances(vm):
    found = client.instances.get("py-vm")
    assert (found.id, found.state, found.image) == (vm, "Running", IMAGE)
    assert (found.size, found.overlay_size, found.vcpus) == ("256.0 MB", "1.0 GB", 2)
    assert found.env["GREETING"] == "hi" and found.tags == {"team": "a b", "env": "x"}
    assert found.expires_at is None and found.network.enabled is False
    assert client.instances.get(vm[:12]).id == vm
    listed = client.instances.list(state="Running", tags={"team": "a b", "env": "x"})
    assert [instance.id for instance in listed] == [vm]
    assert client.instances.list(tags={"team": "others"}) == []
    stats = client.instances.stats(vm)
    assert stats.instance_id == vm and stats.memory_rss_bytes > 0 and stats.allocated_memory_bytes == 256 << 20
    stat = client.instances.stat(vm, path="/bin/busybox")
    assert stat.exists and stat.is_file and stat.mode == 0o755 and stat.size > 0
    assert client.instances.stat(vm, path="/nothing").exists is False
    assert client.instances.wait(vm, state="Stopped", api_timeout="100ms").timed_out


def test_errors(vm):
    refused(hypeman.NotFoundError, "not_found", lambda: client.instances.get("nobody"))
    refused(hypeman.ConflictError, "name_conflict", lambda: create("py-vm"))
    refused(hypeman.BadRequestError, "Bad Request", lambda: create("UPPER"))
    refused(hypeman.BadRequestError, "invalid_size", lambda: create("py-bad", size="-1GB"))
    refused(hypeman.InternalServerError, "not_supported", lambda: create("py-bad", ttl="5m"))
    refused(hypeman.InternalServerError, "not_supported", client.volumes.list)
    stopped = create_stopped()
    refused(hypeman.ConflictError, "invalid_state", lambda: client.instances.restore(stopped))
    with pytest.raises(hypeman.NotFoundError):
        client.instances.get("py-bad")


def create_stopped():
    """An instance that is stopped, made once."""
    instances = {instance.name: instance for instance in client.instances.list()}
    if "py-stopped" not in instances:
        instance = create("py-stopped", cmd=["sh", "-c", "exit 7"])
        wait(instance.id, "Stopped")
        ended = client.instances.get(instance.id)
        assert ended.exit_code == 7 and "7" in ended.exit_message
    return "py-stopped"


def test_start_and_stop():
    name = create_stopped()
    assert client.instances.start(name, cmd=PROGRAM).state in ("Initializing", "Running")
    wait(name)
    # A stream that the garbage collector closes may do so in the middle of another request, and
    # wait for itself.
    with client.instances.logs(name, follow=True) as lines:
        next(line for line in lines if line == "hello")
    assert client.instances.start(name).state == "Running", "it runs already"
    stopped = client.instances.stop(name)
    assert (stopped.state, stopped.exit_code) == ("Stopped", 0), "the words stay"
    assert client.instances.stop(name).state == "Stopped", "it is stopped already"
    client.instances.delete(name)


def test_logs(vm):
    lines = list(client.instances.logs(vm, tail=100000))
    assert lines[:3] == ["hello", "line 1", "line 2"]
    assert len(list(client.instances.logs(vm, tail=2))) == 2
    followed = []
    with client.instances.logs(vm, follow=True, tail=1) as stream:
        for line in stream:
            followed.append(int(line.removeprefix("line ")))
            if len(followed) == 5:
                break
    assert followed == list(range(followed[0], followed[0] + 5))
    assert any("the guest runs" in line for line in client.instances.logs(vm, source="hypeman"))


def test_exec(vm):
    result = exec(client, vm, ["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result.output, result.exit_code) == (b"out\nerr\n", 3)
    assert exec(client, vm, ["nosuch"]).exit_code == 127
    assert exec(client, vm, ["sh", "-c", "kill -9 $$"]).exit_code == 137
    assert exec(client, vm, ["sleep", "100"], timeout=1).exit_code == 124
    words = exec(client, vm, ["sh", "-c", 'echo "$A" $PWD; stty size'], env={"A": "b c"}, cwd="/etc", tty=True, rows=33, cols=44)
    assert words.output == b"b c /etc\r\n33 44\r\n"
    # All input is sent before anything is read, and comes back meanwhile.
    data = os.urandom(5_000_000)
    echoed = exec(client, vm, ["head", "-c", str(len(data))], stdin=data)
    assert echoed.output == data and echoed.exit_code == 0
    stopped = create_stopped()
    with pytest.raises(Exception, match="409"):
        exec(client, stopped, ["true"])


def tree(root):
    """What is below a directory: kind, mode and content."""
    found = {}
    for path in sorted(pathlib.Path(root).rglob("*")):
        name, mode = str(path.relative_to(root)), path.lstat().st_mode & 0o777
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = ("directory", mode)
        else:
            found[name] = ("file", mode, hashlib.sha256(path.read_bytes()).hexdigest())
    return found


def test_cp(vm):
    with tempfile.TemporaryDirectory() as scratch:
        source = pathlib.Path(scratch, "source")
        (source / "sub" / "empty").mkdir(parents=True)
        (source / "a").write_text("hello")
        (source / "a").chmod(0o741)
        (source / "none").write_bytes(b"")
        (source / "frame").write_text('{"type":"end","final":true}')
        (source / "sub" / "large").write_bytes(os.urandom(1 << 20) * 100)
        (source / "sub").chmod(0o750)
        sent = tree(source)
        cp_to_instance(client, vm, source, "/new/directories/copy")
        exec(client, vm, ["sh", "-c", "cd /new/directories/copy; ln -s a link; ln a hard"])
        cp_from_instance(client, vm, "/new/directories/copy", scratch)
        sent.update(link=("link", "a"), hard=sent["a"])
        assert tree(pathlib.Path(scratch, "copy")) == dict(sorted(sent.items()))
        with pytest.raises(Exception, match="no such file"):
            cp_from_instance(client, vm, "/nothing", scratch)
        # The error comes after all has been sent.
        with pytest.raises(Exception, match="is a directory"):
            cp_to_instance(client, vm, source / "sub" / "large", "/tmp")


def test_standby_snapshots_and_forks(vm):
    asleep = client.instances.standby(vm)
    assert asleep.state == "Standby" and asleep.has_snapshot
    assert client.instances.standby(vm).state == "Standby", "it sleeps already"
    refused(hypeman.ConflictError, "invalid_state", lambda: client.instances.stats(vm))
    assert client.instances.restore(vm).state == "Running"
    refused(hypeman.ConflictError, "invalid_state", lambda: client.instances.fork(vm, name="py-fork"))
    fork = client.instances.fork(vm, name="py-fork", from_running=True, target_state="Stopped")
    assert fork.state in ("Created", "Stopped") and not fork.tags
    compression = {"enabled": True, "algorithm": "lz4"}
    made = client.instances.snapshots.create(vm, kind="Standby", name="py-snapshot", tags={"k": "v"}, compression=compression)
    assert (made.kind, made.source_instance_id, made.tags) == ("Standby", vm, {"k": "v"})
    deadline = time.monotonic() + 60
    while client.snapshots.get(made.id).compression_state != "compressed":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert client.snapshots.get(made.id).compressed_size_bytes < made.uncompressed_size_bytes
    assert [found.id for found in client.snapshots.list(source_instance_id=vm, kind="Standby", tags={"k": "v"})] == [made.id]
    assert client.snapshots.list(name="another") == []
    refused(hypeman.ConflictError, "conflict", lambda: client.instances.snapshots.create(vm, kind="Standby", name="py-snapshot"))
    refused(hypeman.ConflictError, "conflict", lambda: client.instances.snapshots.create(vm, kind="Stopped"))
    awake = client.snapshots.fork(made.id, name="py-awake")
    assert awake.state == "Running"
    assert exec(client, awake.id, ["echo", "here"]).output == b"here\n"
    client.instances.delete(awake.id)
    refused(hypeman.ConflictError, "invalid_state", lambda: client.instances.snapshots.restore(made.id, id=vm))
    client.instances.stop(vm)
    assert client.instances.snapshots.restore(made.id, id=vm).state == "Running"
    client.snapshots.delete(made.id)
    refused(hypeman.NotFoundError, "not_found", lambda: client.snapshots.get(made.id))
    client.instances.delete(fork.id)
    client.instances.delete(create_stopped())
