'use server';

import { clerkClient } from '@clerk/nextjs/server';
import { cookies } from 'next/headers';
import { redirect } from 'next/navigation';
import { emulated } from './emulated';

/** What Clerk's sign-up page does, for an emulator that has none: a user, and a browser's cookies. */
export async function signUp(form: FormData) {
  if (!emulated) throw new Error('sign up at Clerk');
  const clerk = await clerkClient();
  const firstName = String(form.get('name'));
  const { id } = await clerk.users.createUser({ firstName, emailAddress: [`${crypto.randomUUID()}@example.com`], skipPasswordRequirement: true });
  const answer = await fetch(`${process.env.CLERK_API_URL}/_emu/tokens`, {
    method: 'POST',
    body: JSON.stringify({ user_id: id, azp: process.env.APP_ORIGIN!, lifetime_ms: 3_600_000, cookies: true }),
  });
  if (!answer.ok) throw new Error(`clerkemu minted no token: ${answer.status}`);
  const jar = await cookies();
  for (const [name, value] of Object.entries<string>((await answer.json()).cookies)) jar.set(name, value, { sameSite: 'lax' });
  redirect('/notes');
}
