package stages

import (
	"sort"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/internal/imageref"
	"gobuild/internal/lazyre"
)

// lintStageNames is E14 and E15.
func lintStageNames(stages []rawStage, lint *linter.Linter) {
	seen := map[string]bool{}
	for _, st := range stages {
		if st.Name == "" {
			continue
		}
		if st.Name == "scratch" || st.Name == "context" {
			lint.Run(&linter.RuleReservedStageName, st.Location, linter.RuleReservedStageName.Format(st.Name))
		}
		if seen[st.Name] {
			lint.Run(&linter.RuleDuplicateStageName, st.Location, linter.RuleDuplicateStageName.Format(st.Name))
		}
		seen[st.Name] = true
	}
}

// lintCasing is E13: the case of the majority is right, upper case in a tie.
func lintCasing(stages []rawStage, lint *linter.Linter) {
	type word struct {
		text string
		loc  []parser.Range
	}
	var words []word
	for _, st := range stages {
		words = append(words, word{st.OrigCmd, st.Location})
		for _, in := range st.commands {
			words = append(words, word{in.cmd.Name(), in.cmd.Location()})
		}
	}
	balance := 0
	for _, w := range words {
		switch w.text {
		case strings.ToLower(w.text):
			balance--
		case strings.ToUpper(w.text):
			balance++
		}
	}
	fold, name := strings.ToUpper, "uppercase"
	if balance < 0 {
		fold, name = strings.ToLower, "lowercase"
	}
	for _, w := range words {
		if fold(w.text) != w.text {
			lint.Run(&linter.RuleConsistentInstructionCasing, w.loc, linter.RuleConsistentInstructionCasing.Format(w.text, name))
		}
	}
}

// lintFromWord is E18 for a FROM's image or platform.
func (p *planner) lintFromWord(unset map[string]struct{}, loc []parser.Range, lint *linter.Linter) {
	if len(unset) == 0 {
		return
	}
	declared := p.fromNames()
	known := map[string]bool{}
	for _, k := range declared {
		known[k] = true
	}
	for _, name := range sortedKeys(unset) {
		if !known[name] {
			lint.Run(&linter.RuleUndefinedArgInFrom, loc, linter.RuleUndefinedArgInFrom.Format(name, Suggest(name, declared)))
		}
	}
}

// lintFromPlatform is E23 and E26.
func lintFromPlatform(st rawStage, word shell.ProcessWordResult, target string, lint *linter.Linter) {
	if len(word.Matched)+len(word.Unmatched) == 0 {
		p, err := platforms.Parse(word.Result)
		if err == nil && !strings.Contains(st.Name, p.OS) && !strings.Contains(st.Name, p.Architecture) {
			lint.Run(&linter.RuleFromPlatformFlagConstDisallowed, st.Location, linter.RuleFromPlatformFlagConstDisallowed.Format(word.Result))
		}
		return
	}
	_, uses := word.Matched["TARGETPLATFORM"]
	if uses && len(word.Matched) == 1 && len(word.Unmatched) == 0 && word.Result == target {
		lint.Run(&linter.RuleRedundantTargetPlatform, st.Location, linter.RuleRedundantTargetPlatform.Format(st.Platform))
	}
}

// lintDefaultBase is E25: with the defaults of the ARGs alone, is base a reference?
func lintDefaultBase(st rawStage, base string, lint *linter.Linter) {
	if _, err := imageref.Parse(base); err != nil {
		lint.Run(&linter.RuleInvalidDefaultArgInFrom, st.Location, linter.RuleInvalidDefaultArgInFrom.Format(st.BaseName))
	}
}

// lintBasePlatform is E27.
func lintBasePlatform(st rawStage, want, got ocispec.Platform, lint *linter.Linter) {
	if want.OS != got.OS || want.Architecture != got.Architecture {
		lint.Run(&linter.RuleInvalidBaseImagePlatform, st.Location, linter.RuleInvalidBaseImagePlatform.Format(st.BaseName,
			platforms.FormatAll(platforms.Normalize(want)), platforms.FormatAll(platforms.Normalize(got))))
	}
}

var (
	secretWord = lazyre.New(`(?i)(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)`)
	publicWord = lazyre.New(`(?i)(?:_|^)(?:public|file|version)(?:_|$)`)
)

// lintSecret is E24.
func lintSecret(instruction, key string, loc []parser.Range, lint *linter.Linter) {
	if secretWord.MatchString(key) && !publicWord.MatchString(key) {
		lint.Run(&linter.RuleSecretsUsedInArgOrEnv, loc, linter.RuleSecretsUsedInArgOrEnv.Format(instruction, key))
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
