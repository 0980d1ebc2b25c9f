// Drives a server through the operations that exist here, by upstream's npm client.
//
// Environment: HYPEMAN_BASE_URL, HYPEMAN_API_KEY, and IMAGE, the name of an image with busybox in it,
// in a registry that wants REGISTRY_USER and REGISTRY_PASSWORD.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import Hypeman from '@onkernel/hypeman';
import { cpFromInstance, cpToInstance } from '@onkernel/hypeman/lib/cp';

const IMAGE = process.env.IMAGE;
const CREDENTIALS = { username: process.env.REGISTRY_USER, password: process.env.REGISTRY_PASSWORD };
const PROGRAM = ['sh', '-c', "trap 'exit 0' TERM; i=0; while sleep 0.1; do i=$((i+1)); echo line $i; done"];

let requests = 0;
const client = new Hypeman({
  fetch: (...request) => {
    requests += 1;
    return fetch(...request);
  },
});

/** Expects an error of this class with this code, and one request. */
async function refused(kind, code, call) {
  const before = requests;
  await assert.rejects(call, (error) => {
    assert(error instanceof kind, `${error}`);
    assert.equal(error.error.code, code);
    return true;
  });
  assert.equal(requests, before + 1, 'the client has tried again');
}

async function wait(id, state) {
  const answer = await client.instances.wait(id, { state, timeout: '120s' });
  assert.deepEqual([answer.state, answer.timed_out], [state, false]);
}

async function provideImage() {
  const deadline = Date.now() + 60_000;
  let image = await client.images.create({ name: IMAGE, credentials: CREDENTIALS });
  const pinned = `${IMAGE.slice(0, IMAGE.lastIndexOf(':'))}@${image.digest}`;
  while ((image = await client.images.get(pinned)).status !== 'ready') {
    assert(Date.now() < deadline);
  }
  assert.deepEqual(image.cmd, ['/bin/sh']);
}

/** What is below a directory: kind, mode and content. */
function tree(root) {
  const found = {};
  for (const name of fs.readdirSync(root, { recursive: true }).sort()) {
    const file = path.join(root, name);
    const status = fs.lstatSync(file);
    const content = () => crypto.createHash('sha256').update(fs.readFileSync(file)).digest('hex');
    if (status.isSymbolicLink()) found[name] = ['link', fs.readlinkSync(file)];
    else if (status.isDirectory()) found[name] = ['directory'];
    else found[name] = ['file', status.mode & 0o777, content()];
  }
  return found;
}

async function copies(instanceId) {
  const config = { baseURL: client.baseURL, apiKey: client.apiKey };
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'hypeman-'));
  const source = path.join(scratch, 'source');
  fs.mkdirSync(path.join(source, 'sub', 'empty'), { recursive: true });
  const write = (name, content) => fs.writeFileSync(path.join(source, name), content);
  write('a', 'hello');
  fs.chmodSync(path.join(source, 'a'), 0o741);
  write('none', '');
  // What this client could take for a control frame.
  write('frame', '{"type":"end","final":true}');
  write('list', '[{"type":"end","final":true}]');
  write('sub/large', Buffer.concat(Array(100).fill(crypto.randomBytes(1 << 20))));
  await cpToInstance(config, { instanceId, srcPath: source, dstPath: '/js/copy' });
  await cpFromInstance(config, { instanceId, srcPath: '/js/copy', dstPath: scratch });
  assert.deepEqual(tree(path.join(scratch, 'copy')), tree(source));
  await assert.rejects(cpFromInstance(config, { instanceId, srcPath: '/nothing', dstPath: scratch }), /no such file/);
  const onto = { instanceId, srcPath: path.join(source, 'a'), dstPath: '/tmp' };
  await assert.rejects(cpToInstance(config, onto), /is a directory/);
  fs.rmSync(scratch, { recursive: true });
}

assert.equal((await client.health.check()).status, 'ok');
assert.equal((await client.capabilities.get()).default_runtime.name, 'qemu');
assert((await client.resources.get()).cpu.capacity > 0);
await provideImage();
const options = { size: '256MB', overlay_size: '1GB', network: { enabled: false }, image: IMAGE, cmd: PROGRAM };
const vm = await client.instances.create({ ...options, name: 'js-vm', tags: { team: 'b' } });
await wait(vm.id, 'Running');
assert.deepEqual((await client.instances.list({ tags: { team: 'b' } })).map((found) => found.id), [vm.id]);
assert.equal((await client.instances.stat(vm.id, { path: '/bin/busybox' })).is_file, true);
assert((await client.instances.stats(vm.id)).cpu_seconds > 0);
await refused(Hypeman.NotFoundError, 'not_found', () => client.instances.get('nobody'));
await refused(Hypeman.ConflictError, 'name_conflict', () => client.instances.create({ ...options, name: 'js-vm' }));
await refused(Hypeman.InternalServerError, 'not_supported', () => client.volumes.list());
const lines = [];
for await (const line of await client.instances.logs(vm.id, { follow: true, tail: 1 })) {
  lines.push(Number(line.replace('line ', '')));
  if (lines.length === 5) break;
}
assert.deepEqual(lines, [0, 1, 2, 3, 4].map((step) => lines[0] + step));
await copies(vm.id);
assert.equal((await client.instances.standby(vm.id)).state, 'Standby');
const snapshot = await client.instances.snapshots.create(vm.id, { kind: 'Standby', name: 'js-snapshot' });
assert.equal((await client.snapshots.list({ source_instance_id: vm.id })).length, 1);
assert.equal((await client.instances.restore(vm.id)).state, 'Running');
const fork = await client.snapshots.fork(snapshot.id, { name: 'js-fork' });
assert.equal(fork.state, 'Running');
assert.equal((await client.instances.stop(fork.id)).state, 'Stopped');
await client.instances.start(fork.id, {});
await wait(fork.id, 'Running');
await client.instances.delete(fork.id);
await client.snapshots.delete(snapshot.id);
await client.instances.delete(vm.id);
await refused(Hypeman.NotFoundError, 'not_found', () => client.instances.get(vm.id));
