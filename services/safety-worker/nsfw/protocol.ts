/** The classifier looks at squares of this side, RGB. */
export const CLASSIFIER_SIDE = 224

export const NSFW_CATEGORIES = ['Drawing', 'Hentai', 'Neutral', 'Porn', 'Sexy'] as const

export type NsfwCategory = (typeof NSFW_CATEGORIES)[number]

/** How much a picture belongs to each category; the sum is 1. */
export type Scores = Readonly<Record<NsfwCategory, number>>

/** To the thread: the pixels of one picture, which it answers before it is given the next. */
export interface ClassifyRequest {
  readonly pixels: Uint8Array
}

/** From the thread: once that the model is loaded, then one answer for each picture. */
export type ThreadMessage =
  | { readonly kind: 'ready'; readonly loadMs: number }
  | { readonly kind: 'scores'; readonly scores: Scores }
  | { readonly kind: 'failed'; readonly message: string }
