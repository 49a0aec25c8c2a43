export interface Size {
  width: number
  height: number
}

/**
 * The size of a picture that fits inside a square and keeps its proportions; a smaller one stays as it is. Where
 * pictures are made smaller in steps, each size is reckoned from the original: rounding what is rounded drifts.
 */
export function fitInside({ width, height }: Size, side: number): Size {
  const scale = Math.min(1, side / Math.max(width, height))
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) }
}
