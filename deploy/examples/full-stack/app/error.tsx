'use client';

export default function Failed() {
  return (
    <main role="alert">
      <h1>Not just now</h1>
      <p>The notes can’t be reached. Nothing that you saved is lost; it works again by itself.</p>
      <button onClick={() => location.reload()}>Try again</button>
    </main>
  );
}
