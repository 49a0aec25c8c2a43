/** Waits for `work` to end, well or badly, but no longer than `ms`. */
export async function within(work: Promise<unknown> | undefined, ms: number): Promise<void> {
  if (work === undefined) return
  const late = Promise.withResolvers<undefined>()
  const timer = setTimeout(() => late.resolve(undefined), ms)
  await Promise.race([work.catch(() => undefined), late.promise])
  clearTimeout(timer)
}
