import { ClerkProvider } from '@clerk/nextjs';
import { connection } from 'next/server';
import './style.css';

export const metadata = { title: 'Notes' };

export default async function Layout({ children }: { children: React.ReactNode }) {
  await connection(); // the keys are read when it runs, not when it is built
  return (
    <ClerkProvider prefetchUI={false}>
      <html lang="en">
        <body>{children}</body>
      </html>
    </ClerkProvider>
  );
}
