import { auth } from '@clerk/nextjs/server';
import { latestNotes, user } from '../../db';
import { add } from './actions';

export default async function Notes() {
  const { userId } = await auth.protect();
  const me = await user(userId);
  // The session token still says yes, for up to a minute: the store knows better.
  if (me?.banned || me?.deleted_at) return <p role="alert">Your account is suspended. Write to support@example.com.</p>;
  return (
    <main>
      <h1>Notes</h1>
      <p>Signed in as <b id="me">{me?.name ?? 'a new user'}</b></p>
      <form action={add}>
        <input name="body" placeholder="A note for everyone" maxLength={500} required />
        <button>Add</button>
      </form>
      <ul>
        {(await latestNotes()).map((note) => (
          <li key={note.id}>{note.body} <small>{note.author ?? 'somebody new'}</small></li>
        ))}
      </ul>
    </main>
  );
}
