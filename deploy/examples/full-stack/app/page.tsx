import Link from 'next/link';

export default function Home() {
  return (
    <main>
      <h1>Notes</h1>
      <p>Anyone may see this page. <Link href="/notes" prefetch={false}>The notes</Link> are for who is signed in.</p>
    </main>
  );
}
