/**
 * What `work` gives, unless that takes longer than `ms`. Nothing stops it then; what becomes of it nobody hears.
 *
 * @param late makes the error of that case, as of the moment when the time is up
 * @throws what `late` makes; whatever `work` throws
 */
export async function withinDeadline<T>(
  work: Promise<T>,
  ms: number,
  late: () => Error = () => new Error(`no answer within ${ms} ms`),
): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(late()), ms)
  try {
    return await Promise.race([work, promise])
  } finally {
    clearTimeout(timer)
  }
}

/** Waits for `work` to end, well or badly, but no longer than `ms`. */
export async function endWithin(work: Promise<unknown> | undefined, ms: number): Promise<void> {
  if (work !== undefined) await withinDeadline(work, ms).catch(() => undefined)
}
