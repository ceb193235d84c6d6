// Reads tokens with Clerk's own library: cases as JSON on stdin, what became of
// each as JSON on stdout.
import { createClerkClient, verifyToken } from '@clerk/backend';
import { text } from 'node:stream/consumers';

const { publishableKey, secretKey, jwtKey, apiUrl, cases } = JSON.parse(await text(process.stdin));
const client = createClerkClient({ publishableKey, secretKey, apiUrl });

async function reason(verify) {
  try {
    await verify();
    return '';
  } catch (err) {
    return err.reason ?? String(err);
  }
}

async function authenticate(headers, options) {
  const state = await client.authenticateRequest(new Request('http://localhost:3000/', { headers }), options);
  const auth = state.toAuth();
  return {
    authenticated: state.isAuthenticated,
    status: state.status,
    reason: state.reason ?? '',
    userId: auth?.userId ?? '',
    orgId: auth?.orgId ?? '',
    orgRole: auth?.orgRole ?? '',
    orgPermissions: auth?.orgPermissions ?? [],
    actor: auth?.actor?.sub ?? '',
    machineId: auth?.machineId ?? auth?.subject ?? '',
    scopes: auth?.scopes ?? [],
  };
}

const results = {};
for (const { name, token, cookie } of cases) {
  results[name] = {
    byPem: await reason(() => verifyToken(token, { jwtKey })),
    byJwks: await reason(() => verifyToken(token, { secretKey, apiUrl })),
    header: await authenticate({ authorization: `Bearer ${token}` }, { acceptsToken: 'any' }),
    cookie: cookie ? await authenticate({ cookie }, {}) : null,
  };
}
console.log(JSON.stringify(results));
