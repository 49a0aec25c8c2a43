/** Accounts that one account may follow: with all of them its feed still opens in milliseconds. */
export const FOLLOWEES_MAX = 7_500
