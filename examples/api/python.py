"""The HTTP API with upstream's Python client: pip install hypeman==0.28.0 websockets"""

import os

from hypeman import Hypeman
from hypeman.lib import cp_from_instance, cp_to_instance, exec

client = Hypeman()  # HYPEMAN_BASE_URL and HYPEMAN_API_KEY
image = os.environ.get("IMAGE", "debian:12")

vm = client.instances.create(
    name="worker",
    image=image,
    cmd=["sh", "-c", "echo ready; sleep 3600"],
    network={"enabled": False},
)
client.instances.wait(vm.id, state="Running", api_timeout="2m")

# Run a command, and copy files both ways.
result = exec(client, vm.id, ["uname", "-s"])
print(result.exit_code, result.output.decode())
cp_to_instance(client, vm.id, __file__, "/tmp/program.py")
cp_from_instance(client, vm.id, "/tmp/program.py", os.environ.get("TMPDIR", "/tmp"))

# Another VM that goes on where this one is now.
snapshot = client.instances.snapshots.create(vm.id, kind="Standby", name="warm")
fork = client.snapshots.fork(snapshot.id, name="worker-2")
print(fork.state, list(client.instances.logs(fork.id, source="hypeman"))[-1])

for instance in (vm, fork):
    client.instances.delete(instance.id)
client.snapshots.delete(snapshot.id)
