package stages

import "unicode/utf8"

// Suggest returns the name in from that is nearest to word by edit distance,
// or "" when none is near enough: at most half the length of word in edits, and
// one edit at least. An exact match is no suggestion. Of equally near names the
// first wins, so the answer depends only on the arguments.
func Suggest(word string, from []string) string {
	w := []rune(word)
	if len(w) == 0 || len(w) > maxSuggestWord {
		return ""
	}
	if len(from) > maxSuggestNames {
		from = from[:maxSuggestNames]
	}
	best, limit := "", max(1, len(w)/2)
	for _, name := range from {
		if name == word {
			return ""
		}
		if name == "" || abs(utf8.RuneCountInString(name)-len(w)) > limit {
			continue
		}
		if d := editDistance(w, []rune(name)); d <= limit {
			best, limit = name, d-1
		}
		if limit < 1 { // a distance of one cannot be beaten
			break
		}
	}
	return best
}

// editDistance is the Levenshtein distance, computed a row at a time.
func editDistance(a, b []rune) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i, ca := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j, cb := range b {
			cost := diagonal
			if ca != cb {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}

// didYouMean is the usual hint made from a suggestion, "" without one.
func didYouMean(word string, from []string) string {
	if s := Suggest(word, from); s != "" {
		return "did you mean " + s + "?"
	}
	return ""
}
