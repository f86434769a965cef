package ui

import (
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gobuild/builder"
	"gobuild/stages"
)

func checked() *builder.CheckResult {
	return &builder.CheckResult{
		File: "Dockerfile", Path: "/src/my app/Dockerfile", Text: []byte("FROM busybox AS Base\nRUN cd /x\\\n && y\nMAINTAINER \x1b[31m%\n"),
		Warnings: []stages.Warning{
			{Rule: "StageNameCasing", Description: "Stage names should be lowercase", URL: "https://docs.example/rule/", Message: "Stage name 'Base' should be lowercase", Pos: stages.Position{Start: 1, End: 1}},
			{Rule: "BestCdInRun", Description: "cd ends with its RUN", URL: "docs/lint.md#bestcdinrun", Message: "cd has no effect", Fix: []string{"WORKDIR /x", "RUN y"}, Pos: stages.Position{Start: 2, End: 3}},
			{Rule: "StageNameCasing", Message: "a\n::error::b \x1b[31m 100%", Pos: stages.Position{Start: 4, End: 4}},
		},
	}
}

func refused() *builder.CheckResult {
	res := checked()
	res.Warnings = res.Warnings[:1]
	res.Err = &builder.Error{Category: builder.CategoryUsage, Op: "MAINTAINER", Err: errors.New("requires one argument"), Hint: "write it", Pos: stages.Position{Start: 4, End: 4}}
	return res
}

func checkOptions() CheckOptions {
	return CheckOptions{Dir: "/src", Version: "1.2.3", URL: stages.RuleURL}
}

func TestE3_Text(t *testing.T) {
	t.Parallel()
	golden(t, "check_text", CheckText(checked(), checkOptions()))
	colour := checkOptions()
	colour.Color = DefaultTheme()
	if got := CheckText(checked(), colour); !strings.Contains(got, "\x1b[33mWARNING:\x1b[0m StageNameCasing - docs/lint.md#stagenamecasing\n") || strings.Contains(got, "\x1b[31m") {
		t.Errorf("colours:\n%q", got)
	}
	clean := checked()
	clean.Warnings = nil
	if got := CheckText(clean, checkOptions()); got != "Check complete, no warnings found.\n" {
		t.Errorf("clean: %q", got)
	}
	if got := CheckText(refused(), checkOptions()); strings.Contains(got, "complete") {
		t.Errorf("a check of what cannot be built is not complete: %q", got)
	}
}

func TestE3_JSON(t *testing.T) {
	t.Parallel()
	for name, res := range map[string]*builder.CheckResult{"check_json": checked(), "check_json_error": refused()} {
		got, err := CheckJSON(res, checkOptions())
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, string(got))
	}
	clean := checked()
	clean.Warnings = nil
	got, err := CheckJSON(clean, checkOptions())
	if err != nil || !strings.Contains(string(got), `"warnings": []`) || strings.Contains(string(got), "buildError") {
		t.Errorf("clean: %s %v", got, err)
	}
}

// BuildKit's reader takes our report: these are the fields that it has
// (frontend/subrequests/lint, solver/pb), and no others may be there.
func TestE3_JSONHasTheShapeOfTheReference(t *testing.T) {
	t.Parallel()
	got, err := CheckJSON(refused(), checkOptions())
	if err != nil {
		t.Fatal(err)
	}
	type position struct {
		Line      int32 `json:"line,omitempty"`
		Character int32 `json:"character,omitempty"`
	}
	type location struct {
		SourceIndex int32 `json:"sourceIndex,omitempty"`
		Ranges      []struct{ Start, End position }
	}
	var report struct {
		Warnings []struct {
			RuleName    string    `json:"ruleName"`
			Description string    `json:"description,omitempty"`
			URL         string    `json:"url,omitempty"`
			Detail      string    `json:"detail,omitempty"`
			Location    *location `json:"location,omitempty"`
		} `json:"warnings"`
		Sources []struct {
			Filename string `json:"filename,omitempty"`
			Data     []byte `json:"data,omitempty"`
			Language string `json:"language,omitempty"`
		} `json:"sources"`
		Error *struct {
			Message  string   `json:"message"`
			Location location `json:"location"`
		} `json:"buildError,omitempty"`
	}
	dec := json.NewDecoder(strings.NewReader(string(got)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&report); err != nil {
		t.Fatal(err)
	}
	if report.Error.Message != "MAINTAINER: requires one argument (write it)" || report.Error.Location.Ranges[0].Start.Line != 4 {
		t.Errorf("error %+v", report.Error)
	}
	if string(report.Sources[0].Data) != string(refused().Text) || report.Sources[0].Filename != "my app/Dockerfile" {
		t.Errorf("source %+v", report.Sources[0])
	}
}

// sarifRules are the demands of the SARIF 2.1.0 schema on the objects that we
// write: their required properties, and the ones that may be there.
var sarifRules = map[string]struct{ required, allowed string }{
	"log":              {"version runs", "$schema"},
	"run":              {"tool", "columnKind invocations artifacts results"},
	"tool":             {"driver", ""},
	"driver":           {"name", "version rules"},
	"rule":             {"id", "shortDescription helpUri help defaultConfiguration"},
	"text":             {"text", ""},
	"configuration":    {"", "level"},
	"invocation":       {"executionSuccessful", ""},
	"artifact":         {"", "location sourceLanguage"},
	"artifactLocation": {"", "uri index"},
	"result":           {"message", "ruleId ruleIndex level locations"},
	"location":         {"", "physicalLocation"},
	"physicalLocation": {"", "artifactLocation region"},
	"region":           {"", "startLine endLine"},
}

// sarifKinds is which kind of object a property holds.
var sarifKinds = map[string]string{
	"runs": "run", "tool": "tool", "driver": "driver", "rules": "rule", "shortDescription": "text", "help": "text", "message": "text",
	"defaultConfiguration": "configuration", "invocations": "invocation", "artifacts": "artifact", "location": "artifactLocation",
	"artifactLocation": "artifactLocation", "results": "result", "locations": "location", "physicalLocation": "physicalLocation", "region": "region",
}

func validSARIF(t *testing.T, kind string, v any) {
	t.Helper()
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			validSARIF(t, kind, one)
		}
	case map[string]any:
		rule, ok := sarifRules[kind]
		if !ok {
			t.Errorf("an object where %q is expected", kind)
		}
		for _, name := range strings.Fields(rule.required) {
			if _, ok := v[name]; !ok {
				t.Errorf("%s lacks %s", kind, name)
			}
		}
		for name, inner := range v {
			if !slices.Contains(strings.Fields(rule.required+" "+rule.allowed), name) {
				t.Errorf("%s has %s", kind, name)
			}
			validSARIF(t, sarifKinds[name], inner)
			checkSARIFValue(t, name, inner)
		}
	}
}

// checkSARIFValue tests formats and enumerations of the schema.
func checkSARIFValue(t *testing.T, name string, v any) {
	t.Helper()
	text, _ := v.(string)
	number, _ := v.(float64)
	u, err := url.Parse(text)
	switch name {
	case "version":
		if text != "2.1.0" && text != "1.2.3" {
			t.Errorf("version %q", text)
		}
	case "helpUri", "$schema":
		if err != nil || !u.IsAbs() {
			t.Errorf("%s %q is not an absolute URI", name, text)
		}
	case "uri":
		if err != nil || strings.Contains(text, " ") {
			t.Errorf("uri %q", text)
		}
	case "level":
		if !slices.Contains([]string{"none", "note", "warning", "error"}, text) {
			t.Errorf("level %q", text)
		}
	case "columnKind":
		if !slices.Contains([]string{"utf16CodeUnits", "unicodeCodePoints"}, text) {
			t.Errorf("columnKind %q", text)
		}
	case "startLine", "endLine":
		if number < 1 {
			t.Errorf("%s %v", name, v)
		}
	case "ruleIndex", "index":
		if number < 0 {
			t.Errorf("%s %v", name, v)
		}
	}
}

func TestE3_SARIF(t *testing.T) {
	t.Parallel()
	strict := checked()
	strict.Strict = true
	fromStdin := refused()
	fromStdin.Path, fromStdin.Err.Pos = "", stages.Position{}
	for name, tc := range map[string]struct {
		res    *builder.CheckResult
		dir    string
		levels []string
		uri    string
	}{
		"relative": {checked(), "/src", []string{"warning", "warning", "warning"}, "my%20app/Dockerfile"},
		"absolute": {refused(), "/other", []string{"warning", "error"}, "file:///src/my%20app/Dockerfile"},
		"strict":   {strict, "/src", []string{"error", "error", "error"}, "my%20app/Dockerfile"},
		"stdin":    {fromStdin, "/src", []string{"warning", "error"}, "Dockerfile"},
		"clean":    {&builder.CheckResult{File: "Dockerfile"}, "", nil, "Dockerfile"},
	} {
		opt := checkOptions()
		opt.Dir = tc.dir
		got, err := CheckSARIF(tc.res, opt)
		if err != nil {
			t.Fatal(err)
		}
		var any any
		var log sarifLog
		if err := errors.Join(json.Unmarshal(got, &any), json.Unmarshal(got, &log)); err != nil {
			t.Fatal(err)
		}
		validSARIF(t, "log", any)
		run := log.Runs[0]
		var levels []string
		for _, r := range run.Results {
			levels = append(levels, r.Level)
			if id := run.Tool.Driver.Rules[r.RuleIndex].ID; id != r.RuleID {
				t.Errorf("%s: rule %s at the index of %s", name, r.RuleID, id)
			}
			if at := r.Locations[0].Physical.Artifact; at.URI != tc.uri || *at.Index != 0 {
				t.Errorf("%s: at %+v", name, at)
			}
		}
		if diff := cmp.Diff(tc.levels, levels); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if run.Artifacts[0].Location.URI != tc.uri {
			t.Errorf("%s: %+v", name, run.Artifacts)
		}
	}
}

func TestE3_Annotations(t *testing.T) {
	t.Parallel()
	want := "::warning file=my app/Dockerfile,line=1,endLine=1,title=StageNameCasing::Stage name 'Base' should be lowercase\n" +
		"::warning file=my app/Dockerfile,line=2,endLine=3,title=BestCdInRun::cd has no effect%0Awrite:%0AWORKDIR /x%0ARUN y\n" +
		"::warning file=my app/Dockerfile,line=4,endLine=4,title=StageNameCasing::a%0A::error::b \\x1b[31m 100%25\n"
	if diff := cmp.Diff(want, CheckAnnotations(checked(), checkOptions())); diff != "" {
		t.Error(diff)
	}
	if got := CheckAnnotations(refused(), checkOptions()); strings.Contains(got, "::error") { // Fail says it
		t.Error(got)
	}
	odd := checked()
	odd.Warnings, odd.Path = odd.Warnings[:1], "/src/a,line=9::x\n:y"
	if got := CheckAnnotations(odd, checkOptions()); !strings.HasPrefix(got, "::warning file=a%2Cline=9%3A%3Ax\\n%3Ay,line=1,") {
		t.Error(got)
	}
}

func TestCheckGoldensAreUsed(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("testdata/check_*.golden")
	if err != nil || len(names) != 3 {
		t.Errorf("%q %v", names, err)
	}
	for _, n := range names {
		if st, err := os.Stat(n); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", n, err)
		}
	}
}
