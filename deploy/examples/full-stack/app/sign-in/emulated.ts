/** Whether the Clerk here is clerkemu, which has no pages to sign in at. */
export const emulated = process.env.CLERK_API_URL?.startsWith('http://127.0.0.1');
