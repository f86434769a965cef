package builder

import (
	"cmp"
	"maps"
	"slices"

	"gobuild/history"
)

// pairSteps lays the steps of two builds side by side, in the order of the Dockerfile: those with the same text first, and of
// the rest those with the same number.
func pairSteps(a, b []history.Step) []StepPair {
	a, b = inOrder(a), inOrder(b)
	taken := make([]bool, len(a))
	pairs := make([]StepPair, 0, len(a)+len(b))
	for j := range b {
		pairs = append(pairs, StepPair{B: &b[j]})
	}
	match := func(same func(x, y history.Step) bool) {
		for j := range pairs {
			for i := range a {
				if pairs[j].A == nil && !taken[i] && a[i].Stage == b[j].Stage && same(a[i], b[j]) {
					taken[i], pairs[j].A = true, &a[i]
				}
			}
		}
	}
	match(func(x, y history.Step) bool { return x.Text == y.Text })
	match(func(x, y history.Step) bool { return x.Number == y.Number })
	for i := range pairs {
		pairs[i].Same = pairs[i].A != nil && pairs[i].A.Key == pairs[i].B.Key
	}
	for i := range a {
		if !taken[i] {
			pairs = append(pairs, StepPair{A: &a[i]})
		}
	}
	return pairs
}

func inOrder(steps []history.Step) []history.Step {
	return slices.SortedStableFunc(slices.Values(steps), func(x, y history.Step) int {
		return cmp.Or(cmp.Compare(x.Index, y.Index), cmp.Compare(x.Number, y.Number))
	})
}

func sortedUnion(a, b map[string]string) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

func orNone(value string, given bool) string {
	if !given {
		return "not given"
	}
	return value
}
