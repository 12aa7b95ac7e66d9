// Notices that the server has files of another version than those that run here.

/** Whether it has; then a reload brings what can't be loaded any more. Never where nobody answers. */
export async function isStale() {
  const ours = new URL(".", import.meta.url).pathname;
  try {
    const shell = await fetch("/", { cache: "no-store" });
    return shell.ok && !(await shell.text()).includes(ours);
  } catch { return false; }
}
