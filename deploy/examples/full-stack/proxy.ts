import { clerkMiddleware, createRouteMatcher } from '@clerk/nextjs/server';

const isProtected = createRouteMatcher(['/notes(.*)']);

export default clerkMiddleware(
  async (auth, request) => {
    if (isProtected(request)) await auth.protect();
  },
  {
    signInUrl: '/sign-in',
    // Verified with the key at hand: no request to Clerk, also when Clerk is down.
    jwtKey: process.env.CLERK_JWT_KEY?.replaceAll('\\n', '\n'),
    authorizedParties: [process.env.APP_ORIGIN!],
  },
);

export const config = { matcher: ['/((?!_next|clerk/|.*\\.(?:ico|png|css|js)$).*)'] };
