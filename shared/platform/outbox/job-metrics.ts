/** How a job ended. `lost`: it took longer than its claim, so that its settlement changed nothing. */
export type JobEnd = 'done' | 'retried' | 'dead' | 'returned' | 'lost'

/** Where a consumer reports its counts; the metrics folder implements it. */
export interface JobMetrics {
  claimed(queue: string, count: number): void
  ended(queue: string, end: JobEnd, count: number): void
  /** One run of a handler, in seconds. */
  ran(queue: string, event: string, seconds: number): void
}

export const noJobMetrics: JobMetrics = { claimed() {}, ended() {}, ran() {} }
