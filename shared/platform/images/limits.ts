/** The most pixels an upload may have (DESIGN, limits): 50 megapixels, width times height. */
export const MAX_IMAGE_PIXELS = 50_000_000

/** How long one step of decoding, resizing or encoding may take before it is given up. */
export const IMAGE_DEADLINE_SECONDS = 20

/** How much of an upload `readHeader` needs at most: cameras put up to this much metadata before the dimensions. */
export const IMAGE_HEADER_BYTES = 1_048_576
