// Asks the page's own server, and nobody else.

export class Problem extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The data of a path, as JSON unless `read` says otherwise; throws a Problem with a sentence. */
export async function get(path, parameters = {}, signal, read = (response) => response.json()) {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== "" && value !== null && value !== undefined) asked.set(name, value);
  }
  const query = asked.toString();
  let response;
  try {
    response = await fetch(query ? `${path}?${query}` : path, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("the page's own process does not answer", 0);
  }
  if (response.status === 401) {
    const here = location.pathname + location.search;
    location.assign(here === "/" ? "/login" : `/login?next=${encodeURIComponent(here)}`);
    throw new Problem("a token is needed", 401);
  }
  let data = null;
  try { data = await (response.ok ? read(response) : response.json()); } catch { /* told below */ }
  if (!response.ok || data === null) {
    throw new Problem(data?.problem || `the page answered with ${response.status}`, response.status);
  }
  return data;
}

/** What the columns are called, and the like; it came with the page. */
export const about = JSON.parse(document.getElementById("about").textContent);
