package stages

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every rule that can fire has a section in docs/lint.md, and every section a rule.
func TestE3_EveryRuleIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/lint.md")
	if err != nil {
		t.Fatal(err)
	}
	var sections []string
	for _, part := range strings.Split(string(page), "\n### ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		sections = append(sections, name)
		if !strings.Contains(text, "\nWhy: ") || !strings.Contains(text, "\nInstead: ") {
			t.Errorf("%s: the section does not say why, or what to write instead", name)
		}
	}
	var rules []string
	for _, r := range bestRules {
		rules = append(rules, r.name)
	}
	used := regexp.MustCompile(`linter\.Rule([A-Za-z]+)\b`) // rules that this package runs
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	rules = append(rules, "StageNameCasing", "FromAsCasing", "MaintainerDeprecated", "InvalidDefinitionDescription") // the parser's
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		src, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range used.FindAllSubmatch(src, -1) {
			rules = append(rules, string(m[1]))
		}
	}
	slices.Sort(rules)
	rules = slices.Compact(rules)
	slices.Sort(sections)
	for _, r := range rules {
		if !slices.Contains(sections, r) {
			t.Errorf("docs/lint.md has no section %s", r)
		}
	}
	for _, s := range sections {
		if !slices.Contains(rules, s) {
			t.Errorf("docs/lint.md describes %s, which is no rule", s)
		}
	}
	if got := RuleURL("BestSudo"); got != "docs/lint.md#bestsudo" {
		t.Errorf("address %s", got)
	}
}
