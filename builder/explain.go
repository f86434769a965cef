package builder

import (
	"fmt"
	"slices"
	"strings"

	"gobuild/cache"
)

// maxExplained bounds the files and lines named for one miss (FEATURES I14).
const maxExplained = 20

func (sr *stageRun) filtered() bool {
	return slices.ContainsFunc(sr.opt.NoCacheFilter, func(name string) bool { return strings.EqualFold(name, sr.stage.Name) })
}

// explain says why a key has no record: what differs from the nearest one that this step had before.
func (sr *stageRun) explain(slot string, key cache.Key) (string, []string) {
	old, ok, err := sr.cache.Nearest(slot, key)
	if err != nil || !ok {
		return "never built here", nil
	}
	changes := cache.Diff(old.Key, key)
	var details []string
	var first string
	for _, c := range changes {
		text := describe(c)
		if text == "" {
			continue
		}
		if first == "" {
			first = text
		}
		details = append(details, text)
	}
	switch {
	case first == "" && sr.missed > 0:
		return fmt.Sprintf("follows the miss at line %d", sr.missed), nil
	case first == "":
		return "what it is built upon changed", nil
	}
	if len(details) > maxExplained {
		rest := len(details) - maxExplained
		details = append(details[:maxExplained], fmt.Sprintf("and %d more", rest))
	}
	return first, details
}

// secretWords are those of lint SecretsUsedInArgOrEnv (FEATURES E24).
var secretWords = []string{"apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"}

// secretName says whether a variable's value should not be shown.
func secretName(name string) bool {
	return slices.ContainsFunc(strings.Split(strings.ToLower(name), "_"), func(word string) bool { return slices.Contains(secretWords, word) })
}

// describe words one changed line; the parent line and digests of whole selections say nothing to a reader.
func describe(c cache.Change) string {
	kind, name, _ := strings.Cut(c.Name, ":")
	switch kind {
	case "parent", "content", "passwd":
		return ""
	case "file":
		return fmt.Sprintf("%s %s", name, changed(c, false))
	case "env":
		return fmt.Sprintf("%s %s", name, changed(c, !secretName(name)))
	case "mount":
		return fmt.Sprintf("mount %s %s", name, changed(c, false))
	}
	return fmt.Sprintf("%s %s", strings.ReplaceAll(c.Name, "-", " "), changed(c, true))
}

func changed(c cache.Change, values bool) string {
	switch {
	case c.Old == "":
		return "is new"
	case c.New == "":
		return "is gone"
	case values:
		return fmt.Sprintf("changed: %s -> %s", clip(c.Old), clip(c.New))
	}
	return "changed"
}

func clip(s string) string {
	const most = 200 // one line of a terminal or two
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
