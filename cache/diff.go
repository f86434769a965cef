package cache

import (
	"cmp"
	"slices"
	"strings"
)

// Change is one line in which two keys differ. Old or New is "" when the line is in one key only.
type Change struct {
	Name      string
	Old, New  string   // the line after its name, quoted as in the text: safe to print
	OldValues []string // the same as words; nil when the line is missing
	NewValues []string
}

// Diff lists the lines in which two keys differ, the first differing first (in the order of the newer
// key; lines it lacks stand where the older one had them). Lines are matched by name, and among equal
// names by the first value (a variable's or file's name), then by position. Keys whose lines are the
// same in another order differ by position. Equal keys give nil.
func Diff(older, newer Key) []Change {
	if older == newer {
		return nil
	}
	before, after := older.Lines(), newer.Lines()
	was, is := unmatched(before, after)
	var changes []placed
	if len(was) == 0 && len(is) == 0 {
		changes = moved(before, after)
	} else {
		changes = pair(was, is, unique(before, after))
	}
	slices.SortStableFunc(changes, func(a, b placed) int { return cmp.Compare(a.at, b.at) })
	out := make([]Change, len(changes))
	for i, c := range changes {
		out[i] = c.Change
	}
	return out
}

// placed is something at a line number.
type placed struct {
	Change
	at int
}

type placedLine struct {
	Line
	at int
}

// unmatched removes from both lists the lines that both have, as often as both have them.
func unmatched(older, newer []Line) (was, is []placedLine) {
	count := make(map[string]int, len(older))
	for _, l := range older {
		count[l.text()]++
	}
	for i, l := range newer {
		if t := l.text(); count[t] > 0 {
			count[t]--
			continue
		}
		is = append(is, placedLine{l, i})
	}
	// What is left in count is what the older key has more of: its last copies.
	for i := len(older) - 1; i >= 0; i-- {
		if t := older[i].text(); count[t] > 0 {
			count[t]--
			was = append(was, placedLine{older[i], i})
		}
	}
	slices.Reverse(was)
	return was, is
}

// unique finds the names that stand once in each key: two such lines are one line that changed.
func unique(older, newer []Line) map[string]bool {
	count := make(map[string]int)
	for _, l := range older {
		count[l.Name]++
	}
	const inNewer = 1 << 32
	for _, l := range newer {
		count[l.Name] += inNewer
	}
	once := make(map[string]bool)
	for name, n := range count {
		once[name] = n == 1+inNewer
	}
	return once
}

// pair makes changes of the lines left over: first those that agree in name and first value, then, of the
// rest, those of one name in order, then the lonely ones.
func pair(was, is []placedLine, once map[string]bool) []placed {
	byFirst := func(l placedLine) string { return Line{l.Name, []string{l.first()}}.text() }
	changes, was, is := pairBy(byFirst, was, is)
	// A line with several values whose first differs is another thing (another variable), not a change
	// of this one, unless the key has only one of the name.
	byName := func(l placedLine) string {
		if len(l.Values) > 1 && !once[l.Name] {
			return byFirst(l)
		}
		return Line{Name: l.Name}.text()
	}
	paired, was, is := pairBy(byName, was, is)
	changes = append(changes, paired...)
	for _, l := range was {
		changes = append(changes, placed{changeOf(&l.Line, nil), l.at})
	}
	for _, l := range is {
		changes = append(changes, placed{changeOf(nil, &l.Line), l.at})
	}
	return changes
}

func pairBy(id func(placedLine) string, was, is []placedLine) (paired []placed, restWas, restIs []placedLine) {
	queue := make(map[string][]placedLine, len(was))
	for _, l := range was {
		queue[id(l)] = append(queue[id(l)], l)
	}
	taken := make(map[int]bool, len(was))
	for _, l := range is {
		q := queue[id(l)]
		if len(q) == 0 {
			restIs = append(restIs, l)
			continue
		}
		queue[id(l)] = q[1:]
		taken[q[0].at] = true
		paired = append(paired, placed{changeOf(&q[0].Line, &l.Line), l.at})
	}
	for _, l := range was {
		if !taken[l.at] {
			restWas = append(restWas, l)
		}
	}
	return paired, restWas, restIs
}

// moved compares two lists of the same lines by position.
func moved(older, newer []Line) []placed {
	var changes []placed
	for i := range min(len(older), len(newer)) {
		if older[i].text() == newer[i].text() {
			continue
		}
		c := changeOf(&older[i], &newer[i])
		if older[i].Name != newer[i].Name {
			c = changeOf(nil, &newer[i])
		}
		changes = append(changes, placed{c, i})
	}
	return changes
}

func changeOf(older, newer *Line) Change {
	var c Change
	if older != nil {
		c.Name, c.Old, c.OldValues = older.Name, older.rest(), older.Values
	}
	if newer != nil {
		c.Name, c.New, c.NewValues = newer.Name, newer.rest(), newer.Values
	}
	return c
}

func (l Line) first() string {
	if len(l.Values) == 0 {
		return ""
	}
	return l.Values[0]
}

func (l Line) text() string {
	var b []byte
	b = appendWord(b, l.Name)
	for _, v := range l.Values {
		b = appendWord(append(b, ' '), v)
	}
	return string(b)
}

// rest is the line after its name.
func (l Line) rest() string {
	_, rest, _ := strings.Cut(l.text()[len(appendWord(nil, l.Name)):], " ")
	return rest
}
