//go:build race

package stages

// slow is how much more time a test's bound gives: the race detector multiplies it.
const slow = 20
