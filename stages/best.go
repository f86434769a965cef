package stages

import (
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// BestRules says which of our own rules, whose names begin with Best, a plan is
// checked against. They judge style and known traps, not meaning.
type BestRules int

// The sets of rules.
const (
	BestNone  BestRules = iota
	BestBuild           // those that a build warns of: what was written is hardly what was meant
	BestAll             // those that gobuild check reports
)

// ContextFacts is what some rules must know of the main build context, which
// this package does not read. What is not known is left out, and the rules that
// need it stay silent.
type ContextFacts struct {
	NoIgnoreFile bool            // no ignore file is in force
	Clutter      []string        // of .git and node_modules, those at the top
	Directories  []string        // sources, expanded, that are directories
	Archives     []string        // sources of ADD, expanded, that are unpacked
	Unmatched    []ContextSource // wildcard sources that match nothing
}

// ContextSource is a source of COPY or ADD, expanded.
type ContextSource struct {
	Path    string
	Parents bool // with --parents, where ** crosses directories
}

// docsPage describes every rule, under a heading that is its name.
const docsPage = "docs/lint.md#"

// RuleURL is where a lint rule is described: docs/lint.md#rulename. It does not
// change between versions.
func RuleURL(rule string) string { return docsPage + strings.ToLower(rule) }

// bestRule is one row of the table of rules.
type bestRule struct {
	name        string
	description string
	builds      bool // a build warns of it too
	optional    bool // only when "experimental=" names it
	check       func(*lintStage) []finding
}

// finding is one violation.
type finding struct {
	at      int // index in lintStage.list, atFrom for the FROM
	message string
	fix     []string // lines to write instead, nil when they cannot be known
}

const atFrom = -1

// bestRules is FEATURES E40 to E57.
var bestRules = []bestRule{
	{name: "BestPinBaseImage", description: "A base image without a digest may change under the same name", optional: true, check: bestPinBaseImage},
	{name: "BestLatestTag", description: "The tag latest, or none, means another image every month", check: bestLatestTag},
	{name: "BestAptUpdateAlone", description: "apt-get update and install belong into one RUN", builds: true, check: bestAptUpdateAlone},
	{name: "BestAptOptions", description: "apt-get install should neither ask, nor install recommendations, nor leave package lists", check: bestAptOptions},
	{name: "BestPackageCache", description: "Caches of package managers should not become part of a layer", check: bestPackageCache},
	{name: "BestCopyBeforeInstall", description: "Dependencies should be installed before the sources are copied", check: bestCopyBeforeInstall},
	{name: "BestSortArgs", description: "Package lists of several lines should be in alphabetical order", check: bestSortArgs},
	{name: "BestMergeRuns", description: "Successive RUNs of the final stage can be one layer", check: bestMergeRuns},
	{name: "BestUseCopy", description: "COPY says what ADD of a local file does", check: bestUseCopy},
	{name: "BestNonRoot", description: "The image should not run as root", check: bestNonRoot},
	{name: "BestMissingIgnore", description: "An ignore file keeps .git and node_modules out of the image", builds: true, check: bestMissingIgnore},
	{name: "BestPipefail", description: "Without pipefail only the last command of a pipe can fail", check: bestPipefail},
	{name: "BestJSONLooksWrong", description: "A list that is not valid JSON is taken for a shell command or a file name", builds: true, check: bestJSONLooksWrong},
	{name: "BestEmptyWildcard", description: "A wildcard that matches nothing copies nothing", builds: true, check: bestEmptyWildcard},
	{name: "BestChmodParents", description: "An octal --chmod without x makes directories that nobody can enter", builds: true, check: bestChmodParents},
	{name: "BestCurlPipe", description: "A download that is executed should be checked first", check: bestCurlPipe},
	{name: "BestSudo", description: "RUN needs no sudo", check: bestSudo},
	{name: "BestCdInRun", description: "cd ends with its RUN", check: bestCdInRun},
	{name: "BestUseradd", description: "useradd with a large uid writes huge log files unless it is told not to", check: bestUseradd},
	{name: "BestVolumeThenWrite", description: "Other builders drop what is written below a VOLUME after it", check: bestVolumeThenWrite},
	{name: "BestHeredocBackslash", description: "Backslashes vanish from a heredoc whose name is not quoted", builds: true, check: bestHeredocBackslash},
	{name: "BestRunChmodDup", description: "chmod and chown in a RUN store the files a second time", check: bestRunChmodDup},
}

// IsOwnRule says that a rule is gobuild's and not one of the reference's.
func IsOwnRule(rule string) bool {
	return slices.ContainsFunc(bestRules, func(r bestRule) bool { return r.name == rule })
}

// lintStage is a stage as the rules see it: pure data, evaluated.
type lintStage struct {
	*stage
	final bool // the target
	facts ContextFacts
	list  []linted // instructions of the stage itself, triggers left out
}

// linted is an instruction with what was in force before it.
type linted struct {
	*command
	shell   []string // SHELL
	dir     string   // absolute
	step    int      // index in out.Steps of what it became, -1 if it changes no files
	volumes []string // that a VOLUME names, absolute
	script  []shellCommand
}

// record keeps an instruction for the rules. It is called after apply, with the
// state from before.
func (s *state) record(c *command, shell []string, dir string, steps int) {
	if s.planner.opt.Best == BestNone || c.onBuild != "" {
		return
	}
	l := linted{command: c, shell: shell, dir: dir, step: -1, volumes: s.named}
	s.named = nil
	if len(s.out.Steps) > steps {
		l.step = steps
	}
	s.seen = append(s.seen, l)
}

// run is the command that instruction i became, nil for any other instruction.
func (v *lintStage) run(i int) *Run {
	if n := v.list[i].step; n >= 0 {
		return v.out.Steps[n].Run
	}
	return nil
}

// copy is the COPY or ADD that instruction i became, nil for any other.
func (v *lintStage) copy(i int) *Copy {
	if n := v.list[i].step; n >= 0 {
		return v.out.Steps[n].Copy
	}
	return nil
}

// lintBest checks a stage that has been evaluated.
func (p *planner) lintBest(st *stage, final bool) {
	if p.opt.Best == BestNone || st.replaced != nil || p.file.lint.SkipAll && !p.file.experimental() {
		return
	}
	v := &lintStage{stage: st, final: final, facts: p.opt.Facts, list: st.seen}
	p.scripts(v)
	for _, r := range bestRules {
		if p.opt.Best == BestBuild && !r.builds {
			continue
		}
		for _, f := range r.check(v) {
			comments, loc := st.raw.Comments, st.raw.Location
			if f.at != atFrom {
				comments, loc = v.list[f.at].cmd.Comments(), v.list[f.at].cmd.Location()
			}
			p.lint.WithMergedConfigFromComments(comments).Run(violation{p, r, f}, loc)
		}
	}
}

func (f *File) experimental() bool {
	return f.lint.ExperimentalAll || len(f.lint.ExperimentalRules) > 0
}

// violation hands a finding past the linter, which knows what is to be skipped
// but not of fixes.
type violation struct {
	to   *planner
	rule bestRule
	finding
}

func (v violation) RuleName() string     { return v.rule.name }
func (v violation) IsDeprecated() bool   { return false }
func (v violation) IsExperimental() bool { return v.rule.optional }

func (v violation) Run(_ linter.LintWarnFunc, location []parser.Range, _ ...string) {
	if len(v.to.warnings) < maxWarnings {
		v.to.warnings = append(v.to.warnings, Warning{Rule: v.rule.name, Description: v.rule.description, URL: RuleURL(v.rule.name),
			Message: v.message, Fix: v.fix, Pos: span(location)})
	}
}
