package builder

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// UsageFilter chooses rows of gobuild du and gobuild prune (FEATURES I17): all its terms hold of a row that it takes.
type UsageFilter []func(row Usage, now time.Time) bool

// maxUsageTerms bounds what every row is compared with.
const maxUsageTerms = 100

// ParseUsageFilter reads the values of --filter. Each has terms between commas: id, type or description with =, != or ~= (a regular
// expression), unused-for=DURATION, until=DURATION, and mutable, inuse, shared or private, each also with =true or =false.
func ParseUsageFilter(list []string) (UsageFilter, error) {
	var f UsageFilter
	for _, value := range list {
		for _, term := range strings.Split(value, ",") {
			match, err := usageTerm(term)
			if err != nil {
				return nil, err
			}
			if f = append(f, match); len(f) > maxUsageTerms {
				return nil, fmt.Errorf("more than %d terms", maxUsageTerms)
			}
		}
	}
	return f, nil
}

func usageTerm(term string) (func(Usage, time.Time) bool, error) {
	name, op, value := cutTerm(term)
	switch {
	case name == "unused-for" || name == "until":
		d, err := time.ParseDuration(value)
		if op != "=" || err != nil || d < 0 {
			return nil, fmt.Errorf("%q: want %s=DURATION, like %s=24h", term, name, name)
		}
		return func(row Usage, now time.Time) bool { return now.Sub(row.LastUsed) >= d }, nil
	case usageStates[name] != nil && (op == "" || op == "=" && (value == "true" || value == "false")):
		is := usageStates[name]
		return func(row Usage, _ time.Time) bool { return is(row) == (value != "false") }, nil
	case (name == "id" || name == "type" || name == "description") && op != "":
		same, err := usageText(op, value)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", term, err)
		}
		return func(row Usage, _ time.Time) bool {
			return same(map[string]string{"id": row.ID, "type": row.Type, "description": row.Description}[name])
		}, nil
	}
	return nil, fmt.Errorf("%q is not a filter", term)
}

// usageStates are the terms that hold or do not.
var usageStates = map[string]func(Usage) bool{
	"mutable": Usage.mutable,
	"inuse":   func(u Usage) bool { return u.InUse },
	"shared":  func(u Usage) bool { return u.Shared },
	"private": func(u Usage) bool { return !u.Shared },
}

// cutTerm finds the first operator; a term without one is a name.
func cutTerm(term string) (name, op, value string) {
	at := strings.IndexByte(term, '=')
	if at < 0 {
		return term, "", ""
	}
	if at > 0 && (term[at-1] == '!' || term[at-1] == '~') {
		return term[:at-1], term[at-1 : at+1], term[at+1:]
	}
	return term[:at], "=", strings.TrimPrefix(term[at+1:], "=") // == is what buildx takes, too
}

func usageText(op, value string) (func(string) bool, error) {
	switch op {
	case "!=":
		return func(s string) bool { return s != value }, nil
	case "~=":
		re, err := regexp.Compile(value)
		if err != nil {
			return nil, err
		}
		return re.MatchString, nil
	}
	return func(s string) bool { return s == value }, nil
}

func (f UsageFilter) takes(row Usage, now time.Time) bool {
	for _, match := range f {
		if !match(row, now) {
			return false
		}
	}
	return true
}

// mutable says that what the row stands for changes in place.
func (u Usage) mutable() bool { return u.Type == usageCacheMount || u.Type == usageContext }
