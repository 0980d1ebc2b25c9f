// The HTTP API with upstream's npm client: npm install @onkernel/hypeman@0.28.0

import Hypeman from '@onkernel/hypeman';

const client = new Hypeman(); // HYPEMAN_BASE_URL and HYPEMAN_API_KEY

const vm = await client.instances.create({
  name: 'counter',
  image: process.env.IMAGE ?? 'debian:12',
  cmd: ['sh', '-c', 'i=0; while sleep 0.1; do i=$((i+1)); echo $i; done'],
  network: { enabled: false },
});
await client.instances.wait(vm.id, { state: 'Running', timeout: '2m' });

// Follow its log.
for await (const line of await client.instances.logs(vm.id, { follow: true })) {
  console.log(line);
  if (line === '3') break;
}

await client.instances.stop(vm.id);
await client.instances.delete(vm.id);
