//go:build !race

package stages

// slow is how much more time a test's bound gives, for machines that are busy or old. Bounds are CPU time and many times what is
// needed: they tell quadratic from linear, not fast from slow.
const slow = 5
