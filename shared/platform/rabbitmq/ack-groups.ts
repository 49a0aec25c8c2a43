/** Acknowledges deliveries of one channel, as many at once as the order of their tags allows. */
export interface AckGroups {
  /** A delivery has arrived; tags rise. */
  arrived(tag: number): void
  /** A delivery is settled. Acknowledged with the others of this turn of the event loop. */
  settled(tag: number): void
  /** Sends what is settled now. */
  flush(): void
  /** Deliveries that are not settled. */
  readonly unsettled: number
}

/**
 * @param send sends one acknowledgement: of `tag` alone, or of all up to it
 */
export function createAckGroups(send: (tag: number, multiple: boolean) => void): AckGroups {
  /** In the order of arrival, so the first is the lowest. */
  const open = new Set<number>()
  let settled: number[] = []

  function flush(): void {
    const tags = settled
    settled = []
    const [lowestOpen = Infinity] = open
    const below = tags.filter((tag) => tag < lowestOpen)
    if (below.length > 0) send(Math.max(...below), below.length > 1)
    // Something before these is still at work: an acknowledgement of all up to one of them would take that along.
    for (const tag of tags) if (tag > lowestOpen) send(tag, false)
  }

  return {
    arrived: (tag) => void open.add(tag),
    settled(tag) {
      if (!open.delete(tag)) return
      if (settled.length === 0) setImmediate(flush)
      settled.push(tag)
    },
    flush,
    get unsettled() {
      return open.size
    },
  }
}
