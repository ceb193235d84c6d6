'use server';

import { auth } from '@clerk/nextjs/server';
import { revalidatePath } from 'next/cache';
import { addNote, user } from '../../db';

export async function add(form: FormData) {
  const { userId } = await auth.protect();
  const me = await user(userId);
  const body = String(form.get('body') ?? '').trim().slice(0, 500);
  if (body && !me?.banned && !me?.deleted_at) await addNote(userId, body);
  revalidatePath('/notes');
}
