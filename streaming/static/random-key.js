// @ts-check

/** A random idempotency key. (`randomUUID` needs HTTPS; this works on plain HTTP too.) */
export function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
