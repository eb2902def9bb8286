// An identity provider that rotates its keys on request: node mock-server.mjs PACKAGES PORT
//
// Each line of standard input is a command, and prints one line: `rotate` generates a new signing key and prints its kid;
// `token` prints a token signed with the newest key; `token KID` one signed with an older key. Exits when standard input
// is closed.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [packages, port] = process.argv.slice(2);
const { resolve } = createRequire(join(packages, 'package.json'));
const { OAuth2Server } = await import(pathToFileURL(resolve('oauth2-mock-server')).href);

const server = new OAuth2Server();
let newest = (await server.issuer.keys.generate('RS256')).kid;
await server.start(Number(port), '127.0.0.1');
console.log(`ready ${server.issuer.url}`);

for await (const line of createInterface({ input: process.stdin })) {
  const [command, kid] = line.split(' ');
  if (command === 'rotate') {
    newest = (await server.issuer.keys.generate('RS256')).kid;
    console.log(newest);
  } else {
    const scopesOrTransform = (_, payload) => Object.assign(payload, { aud: 'api', sub: 'svc' });
    console.log(await server.issuer.buildToken({ kid: kid ?? newest, scopesOrTransform }));
  }
}
process.exit(0);
