// Verifies deliveries with Svix's own library: one JSON line in
// ({secret, headers, body}), one line out ("accepted" or the refusal).
import { createInterface } from "node:readline";
import { Webhook } from "svix";

for await (const line of createInterface({ input: process.stdin })) {
  const { secret, headers, body } = JSON.parse(line);
  try {
    new Webhook(secret).verify(body, headers);
    console.log("accepted");
  } catch (e) {
    console.log(`refused: ${e.message}`);
  }
}
