// Authenticates requests with Clerk's own library, as a server would: cases of
// headers as JSON on stdin, who was signed in as JSON on stdout.
import { createClerkClient } from '@clerk/backend';
import { text } from 'node:stream/consumers';

const { publishableKey, secretKey, jwtKey, authorizedParties, cases } = JSON.parse(await text(process.stdin));
const client = createClerkClient({ publishableKey, secretKey, jwtKey });

const verdicts = {};
for (const { name, headers } of cases) {
  const state = await client.authenticateRequest(new Request('http://localhost:3000/', { headers }), { authorizedParties });
  const auth = state.toAuth();
  verdicts[name] = {
    reason: state.reason ?? '',
    userId: auth?.userId ?? '',
    sessionId: auth?.sessionId ?? '',
    orgId: auth?.orgId ?? '',
    orgSlug: auth?.orgSlug ?? '',
    orgRole: auth?.orgRole ?? '',
    orgPermissions: auth?.orgPermissions ?? [],
    actor: auth?.actor?.sub ?? '',
    has: auth?.userId
      ? {
          role: auth.has({ role: 'org:admin' }),
          permission: auth.has({ permission: 'org:invoices:read' }),
          feature: auth.has({ feature: 'search' }),
          plan: auth.has({ plan: 'org:pro' }),
          strict: auth.has({ reverification: 'strict' }),
          strict_mfa: auth.has({ reverification: 'strict_mfa' }),
          lax: auth.has({ reverification: 'lax' }),
        }
      : {},
  };
}
console.log(JSON.stringify(verdicts));
