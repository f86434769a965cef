package ui

import (
	"cmp"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"gobuild/builder"
)

// CheckOptions shape the report of a check.
type CheckOptions struct {
	Color   Theme
	Dir     string // the file is shown relative to it; "" leaves its path alone
	Version string // of gobuild, for SARIF
	URL     func(rule string) string
}

// finding is a warning or an error of a check in the terms of this package.
type finding struct {
	rule, description, url, message string
	fix                             []string
	start, end                      int // 0: about the file as a whole
}

// findings are those of res, in order.
func findings(res *builder.CheckResult) []finding {
	list := make([]finding, 0, len(res.Warnings))
	for _, w := range res.Warnings {
		list = append(list, finding{w.Rule, w.Description, w.URL, w.Message, w.Fix, w.Pos.Start, max(w.Pos.End, w.Pos.Start)})
	}
	return list
}

// CheckedFile is the name under which a report shows the Dockerfile.
func CheckedFile(res *builder.CheckResult, dir string) string {
	if res.Path == "" {
		return res.File
	}
	return filepath.ToSlash(shownPath(res.Path, dir))
}

// CheckText is the report for people: of each finding the rule, the page about
// it, the message, the line, and what to write instead where that is known. The
// error of a Dockerfile that cannot be built is left to Printer.Fail.
func CheckText(res *builder.CheckResult, opt CheckOptions) string {
	var b strings.Builder
	source := strings.Split(strings.ReplaceAll(string(res.Text), "\r\n", "\n"), "\n")
	show := Options{Color: opt.Color}
	show.Color.Error = opt.Color.Warning
	file := CheckedFile(res, opt.Dir)
	for _, f := range findings(res) {
		fmt.Fprintf(&b, "%s %s - %s\n", opt.Color.paint(opt.Color.Warning, "WARNING:"), Line(f.rule), Line(opt.URL(f.rule)))
		b.WriteString(strings.Join(indentRest("", f.message), "\n") + "\n")
		at := &builder.Error{File: file, Source: source}
		at.Pos.Start, at.Pos.End = f.start, f.end
		for _, l := range excerpt(at, &show) {
			b.WriteString(l + "\n")
		}
		for i, l := range f.fix {
			prefix := "       "
			if i == 0 {
				prefix = "write: "
			}
			b.WriteString(prefix + cut(Line(l)) + "\n")
		}
		b.WriteString("\n")
	}
	switch n := len(res.Warnings); {
	case res.Err != nil:
	case n == 0:
		b.WriteString("Check complete, no warnings found.\n")
	case n == 1:
		b.WriteString("Check complete, 1 warning has been found!\n")
	default:
		fmt.Fprintf(&b, "Check complete, %d warnings have been found!\n", n)
	}
	return b.String()
}

// The types of CheckJSON have the shape of BuildKit's result.json of the lint
// subrequest, version 1.0.0.
type lintReport struct {
	Warnings []lintWarning `json:"warnings"`
	Sources  []lintSource  `json:"sources"`
	Error    *lintError    `json:"buildError,omitempty"`
}

type lintWarning struct {
	Rule        string       `json:"ruleName"`
	Description string       `json:"description,omitempty"`
	URL         string       `json:"url,omitempty"`
	Detail      string       `json:"detail,omitempty"`
	Location    lintLocation `json:"location"`
}

type lintLocation struct {
	Source int         `json:"sourceIndex"` // -1: about no file
	Ranges []lintRange `json:"ranges"`
}

type lintRange struct {
	Start lintPosition `json:"start"`
	End   lintPosition `json:"end"`
}

type lintPosition struct {
	Line      int `json:"line"`
	Character int `json:"character"`
}

type lintSource struct {
	Filename string `json:"filename"`
	Language string `json:"language"`
	Data     []byte `json:"data"` // in base64
}

type lintError struct {
	Message  string       `json:"message"`
	Location lintLocation `json:"location"`
}

// CheckJSON is the report for programs, in BuildKit's form.
func CheckJSON(res *builder.CheckResult, opt CheckOptions) ([]byte, error) {
	out := lintReport{
		Warnings: []lintWarning{},
		Sources:  []lintSource{{Filename: CheckedFile(res, opt.Dir), Language: "Dockerfile", Data: res.Text}},
	}
	for _, f := range findings(res) {
		out.Warnings = append(out.Warnings, lintWarning{f.rule, f.description, f.url, withFix(f), location(f.start, f.end)})
	}
	if err := cmp.Or(res.Err, res.Refusal); err != nil {
		out.Error = &lintError{errorText(err), location(err.Pos.Start, err.Pos.End)}
		out.Error.Location.Source = 0 // the reference's reader looks it up unasked
	}
	return JSON(out, "  ")
}

// location has a range for each line, as the reference's parser gives them.
func location(start, end int) lintLocation {
	const most = 1000 // lines of one instruction
	loc := lintLocation{Ranges: []lintRange{}}
	if start <= 0 {
		loc.Source = -1
		return loc
	}
	for n := start; n <= max(start, end) && n < start+most; n++ {
		loc.Ranges = append(loc.Ranges, lintRange{lintPosition{Line: n}, lintPosition{Line: n}})
	}
	return loc
}

// withFix is the message with the lines to write below it.
func withFix(f finding) string {
	if len(f.fix) == 0 {
		return f.message
	}
	return f.message + "\nwrite:\n" + strings.Join(f.fix, "\n")
}

// errorText is what is wrong with a Dockerfile, and what to do about it.
func errorText(err error) string {
	text := err.Error()
	if hint := remedy(err); hint != "" {
		text += " (" + hint + ")"
	}
	return text
}

// The types of CheckSARIF are the part of SARIF 2.1.0 that is used here
// (OASIS Standard, sections 3.13 to 3.49).
type sarifLog struct {
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool struct {
		Driver sarifDriver `json:"driver"`
	} `json:"tool"`
	ColumnKind  string            `json:"columnKind"`
	Invocations []sarifInvocation `json:"invocations"`
	Artifacts   []sarifArtifact   `json:"artifacts"`
	Results     []sarifResult     `json:"results"`
}

type sarifDriver struct {
	Name    string      `json:"name"`
	Version string      `json:"version,omitempty"`
	Rules   []sarifRule `json:"rules"`
}

type sarifRule struct {
	ID               string        `json:"id"`
	ShortDescription *sarifText    `json:"shortDescription,omitempty"`
	HelpURI          string        `json:"helpUri,omitempty"`
	Help             *sarifText    `json:"help,omitempty"`
	Configuration    sarifSeverity `json:"defaultConfiguration"`
}

type sarifSeverity struct {
	Level string `json:"level"`
}

type sarifText struct {
	Text string `json:"text"`
}

type sarifInvocation struct {
	Successful bool `json:"executionSuccessful"`
}

type sarifArtifact struct {
	Location sarifURI `json:"location"`
	Language string   `json:"sourceLanguage"`
}

type sarifURI struct {
	URI   string `json:"uri"`
	Index *int   `json:"index,omitempty"`
}

type sarifResult struct {
	RuleID    string          `json:"ruleId"`
	RuleIndex int             `json:"ruleIndex"`
	Level     string          `json:"level"`
	Message   sarifText       `json:"message"`
	Locations []sarifLocation `json:"locations"`
}

type sarifLocation struct {
	Physical struct {
		Artifact sarifURI     `json:"artifactLocation"`
		Region   *sarifRegion `json:"region,omitempty"`
	} `json:"physicalLocation"`
}

type sarifRegion struct {
	StartLine int `json:"startLine"`
	EndLine   int `json:"endLine"`
}

// errorRule is the rule of the result that stands for an error in the Dockerfile.
const errorRule = "DockerfileError"

// CheckSARIF is the report as SARIF 2.1.0, which code scanning services read.
func CheckSARIF(res *builder.CheckResult, opt CheckOptions) ([]byte, error) {
	run := sarifRun{
		ColumnKind:  "unicodeCodePoints",
		Invocations: []sarifInvocation{{Successful: true}},
		Artifacts:   []sarifArtifact{{Location: sarifURI{URI: fileURI(CheckedFile(res, opt.Dir))}, Language: "dockerfile"}},
		Results:     []sarifResult{},
	}
	run.Tool.Driver = sarifDriver{Name: "gobuild", Version: opt.Version, Rules: []sarifRule{}}
	level := "warning"
	if res.Strict {
		level = "error"
	}
	index := map[string]int{}
	add := func(f finding, level string) {
		i, ok := index[f.rule]
		if !ok {
			i = len(run.Tool.Driver.Rules)
			index[f.rule] = i
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRuleOf(f, level, opt))
		}
		r := sarifResult{RuleID: f.rule, RuleIndex: i, Level: level, Message: sarifText{withFix(f)}, Locations: []sarifLocation{{}}}
		at := &r.Locations[0].Physical
		at.Artifact = sarifURI{URI: run.Artifacts[0].Location.URI, Index: new(int)}
		if f.start > 0 {
			at.Region = &sarifRegion{f.start, f.end}
		}
		run.Results = append(run.Results, r)
	}
	for _, f := range findings(res) {
		add(f, level)
	}
	if e := res.Err; e != nil {
		add(finding{rule: errorRule, description: "The Dockerfile cannot be built", message: errorText(e), start: e.Pos.Start, end: max(e.Pos.End, e.Pos.Start)}, "error")
	}
	return JSON(sarifLog{"https://json.schemastore.org/sarif-2.1.0.json", "2.1.0", []sarifRun{run}}, "  ")
}

// sarifRuleOf describes a rule once. helpUri must be absolute (section 3.49.12), so a page of ours is named in the help text.
func sarifRuleOf(f finding, level string, opt CheckOptions) sarifRule {
	r := sarifRule{ID: f.rule, Configuration: sarifSeverity{level}}
	if f.description != "" {
		r.ShortDescription = &sarifText{f.description}
	}
	if u, err := url.Parse(f.url); err == nil && u.IsAbs() {
		r.HelpURI = f.url
	}
	if f.rule != errorRule {
		r.Help = &sarifText{"See " + opt.URL(f.rule) + " of gobuild."}
	}
	return r
}

// fileURI is a path as a URI reference (RFC 3986): relative, or with the file scheme.
func fileURI(path string) string {
	u := url.URL{Path: path}
	if strings.HasPrefix(path, "/") {
		u.Scheme = "file"
	}
	return u.String()
}

// CheckAnnotations are workflow commands: GitHub Actions shows them beside the
// lines that they are about; that of res.Err comes with [Printer.Fail]. Nothing that a Dockerfile holds can end one and
// begin another.
func CheckAnnotations(res *builder.CheckResult, opt CheckOptions) string {
	var b strings.Builder
	file := CheckedFile(res, opt.Dir)
	level := "warning"
	if res.Strict {
		level = "error"
	}
	for _, f := range findings(res) {
		annotate(&b, level, file, f)
	}
	return b.String()
}

func annotate(b *strings.Builder, level, file string, f finding) {
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	fmt.Fprintf(b, "::%s file=%s", level, property.Replace(Line(file)))
	if f.start > 0 {
		fmt.Fprintf(b, ",line=%d,endLine=%d", f.start, f.end)
	}
	fmt.Fprintf(b, ",title=%s::%s\n", property.Replace(Line(f.rule)), data.Replace(Text(withFix(f))))
}
