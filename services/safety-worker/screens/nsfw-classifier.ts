import type { Verdict } from '#domain/photos/photos.table.ts'
import { worstVerdict } from '#domain/photos/verdict.rules.ts'
import { resizePixels } from '#platform/images/decode-upright.ts'
import { CLASSIFIER_SIDE } from '../nsfw/protocol.ts'
import type { NsfwCategory, Scores } from '../nsfw/protocol.ts'
import type { Classifier } from '../nsfw/classifier.ts'
import type { Screen } from '../screen.ts'

/** Scores from 0 to 1 at and above which a category has consequences; null: it never has. */
export interface CategoryThresholds {
  readonly reviewAt: number | null
  readonly rejectAt: number | null
}

/** Categories that are not named have no consequences. */
export type NsfwThresholds = Readonly<Partial<Record<NsfwCategory, CategoryThresholds>>>

/**
 * Judges pictures by the scores of a classifier, five numbers that sum to 1 (github.com/infinitered/nsfwjs).
 * Closing the screen closes the classifier.
 */
export function nsfwClassifierScreen(options: { classifier: Classifier; thresholds: NsfwThresholds }): Screen {
  return {
    name: 'nsfw-classifier',
    async screen(picture) {
      const { data } = await resizePixels(picture, { width: CLASSIFIER_SIDE, height: CLASSIFIER_SIDE })
      const scores = await options.classifier.classify(data)
      return { verdict: judgeScores(scores, options.thresholds), detail: { ...scores } }
    },
    close: () => options.classifier.close(),
  }
}

/** The worst that any category's thresholds make of its score. */
export function judgeScores(scores: Scores, thresholds: NsfwThresholds): Verdict {
  const judged = Object.entries(thresholds) as [NsfwCategory, CategoryThresholds][]
  return worstVerdict(
    judged.map(([category, { reviewAt, rejectAt }]) => {
      if (rejectAt !== null && scores[category] >= rejectAt) return 'reject'
      return reviewAt !== null && scores[category] >= reviewAt ? 'review' : 'clean'
    }),
  )
}
