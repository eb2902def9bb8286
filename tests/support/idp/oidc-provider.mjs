// A certified OpenID provider: node oidc-provider.mjs PACKAGES PORT KEYS GENERATION...
//
// KEYS is a directory that stores the keys of each generation, so that they survive a restart. Keys of the first
// generation sign; the keys of all generations are published. The resource `urn:api:ALG` gets access tokens signed with
// that algorithm. Prints one line when it is ready, and exits when standard input is closed.
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [packages, port, folder, ...generations] = process.argv.slice(2);
const { resolve } = createRequire(join(packages, 'package.json'));
const { default: Provider } = await import(pathToFileURL(resolve('oidc-provider')).href);

const kinds = {
  RS256: ['rsa', { modulusLength: 2048 }],
  PS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  EdDSA: ['ed25519', {}],
};

function keysForGeneration(generation) {
  const file = join(folder, `keys-${generation}.json`);
  if (!existsSync(file)) {
    const keys = Object.entries(kinds).map(([alg, [type, options]]) => {
      const jwk = generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' });
      return { ...jwk, kid: `${alg}-${generation}`, alg, use: 'sig' };
    });
    writeFileSync(file, JSON.stringify(keys));
  }
  return JSON.parse(readFileSync(file));
}

const algorithms = Object.keys(kinds);
const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: { keys: generations.flatMap(keysForGeneration) },
  clients: [{
    client_id: 'svc',
    client_secret: 'svc-secret',
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    token_endpoint_auth_method: 'client_secret_basic',
  }],
  enabledJWA: { idTokenSigningAlgValues: algorithms },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => ({
        scope: 'read',
        audience: 'api',
        accessTokenFormat: 'jwt',
        accessTokenTTL: 600,
        jwt: { sign: { alg: resource.slice('urn:api:'.length) } },
      }),
    },
  },
});
createServer(provider.callback()).listen(Number(port), '127.0.0.1', () => console.log(`ready http://127.0.0.1:${port}`));
process.stdin.on('end', () => process.exit(0)).resume();
