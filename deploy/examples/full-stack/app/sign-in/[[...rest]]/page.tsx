import { SignIn } from '@clerk/nextjs';
import { signUp } from '../actions';
import { emulated } from '../emulated';

export default function Page() {
  if (!emulated) return <SignIn />;
  return (
    <main>
      <h1>Sign up</h1>
      <form action={signUp}>
        <input name="name" placeholder="Your first name" required />
        <button>Sign up</button>
      </form>
      <small>At clerkemu, which stands in for Clerk here.</small>
    </main>
  );
}
