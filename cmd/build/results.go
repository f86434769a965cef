package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gobuild/builder"
	"gobuild/internal/atomicfile"
	"gobuild/internal/imageref"
	"gobuild/ui"
)

// resultFiles are the files that tell other programs about the result (FEATURES K6, K7).
type resultFiles struct {
	metadata string
	report   string
	summary  string                                  // to be appended to
	perFile  map[string]func(*builder.Result) string // path to content
}

// resultFiles checks that the files can be made, and removes old ones, so that a
// failed build does not leave the id of an earlier one behind.
func (a *app) resultFiles(f flags) (*resultFiles, error) {
	files := &resultFiles{perFile: map[string]func(*builder.Result) string{}}
	contents := map[string]func(*builder.Result) string{
		"iidfile":     func(r *builder.Result) string { return r.ID().String() },
		"iidfile-raw": func(r *builder.Result) string { return r.ID().Encoded() },
		"digest-file": func(r *builder.Result) string { return r.Manifest.Digest.String() },
		"image-name-with-digest-file": func(r *builder.Result) string {
			return namesWithDigest(r, false)
		},
		"image-name-tag-with-digest-file": func(r *builder.Result) string {
			return namesWithDigest(r, true)
		},
	}
	for _, flag := range append(sortedKeys(contents), "metadata-file", "report") {
		if !f.given(flag) {
			continue
		}
		check := outputPath
		if flag == "report" {
			check = reportPath
		}
		path, err := check(flag, f.str(flag))
		if err != nil {
			return nil, err
		}
		if _, twice := files.perFile[path]; twice || path == files.metadata {
			return nil, usagef("--%s=%s: another flag has the same file", flag, f.str(flag))
		}
		switch flag {
		case "metadata-file":
			files.metadata = path
		case "report":
			files.report = path
		default:
			files.perFile[path] = contents[flag]
		}
	}
	if f.is("summary") {
		if files.summary = a.env["GITHUB_STEP_SUMMARY"]; files.summary == "" {
			return nil, hint(usagef("--summary: the variable GITHUB_STEP_SUMMARY names no file"), "it is for GitHub Actions; --metadata-file has the same for programs")
		}
	}
	for path := range files.perFile {
		if err := removeRegular(path); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// outputPath is the absolute path of a file to write, whose directory must exist.
func outputPath(flag, path string) (string, error) {
	if path == "" || strings.HasSuffix(path, "/") {
		return "", usagef("--%s=%s: want a file", flag, path)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", environmentf("--%s=%s: %w", flag, path, err)
	}
	if _, err := directory(filepath.Dir(abs)); err != nil {
		return "", fmt.Errorf("--%s: %w", flag, err)
	}
	if st, err := os.Stat(abs); err == nil && st.IsDir() {
		return "", usagef("--%s=%s: is a directory", flag, path)
	}
	return abs, nil
}

func removeRegular(path string) error {
	st, err := os.Lstat(path)
	if err != nil || !st.Mode().IsRegular() {
		return nil //nolint:nilerr // what is not there, or no file, holds no old id
	}
	if err := os.Remove(path); err != nil {
		return environmentf("remove old file: %w", err)
	}
	return nil
}

// write makes the files: all after success, the metadata also after a failure.
func (r *resultFiles) write(res *builder.Result, failure error) error {
	var errs []error
	if failure == nil {
		for _, path := range sortedKeys(r.perFile) {
			errs = append(errs, writeFile(path, []byte(r.perFile[path](res))))
		}
	}
	if r.metadata != "" {
		data, err := ui.JSON(metadata(res, failure), "  ")
		if err == nil {
			err = writeFile(r.metadata, data)
		}
		errs = append(errs, err)
	}
	if r.summary != "" {
		errs = append(errs, appendFile(r.summary, []byte(ui.Summary(res, failure))))
	}
	return errors.Join(errs...)
}

// appendFile adds to a file, which may be missing.
func appendFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return environmentf("write summary: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return environmentf("write summary: %w", err)
	}
	return nil
}

// writeFile replaces a file by rename; a device or pipe is written into.
func writeFile(path string, data []byte) error {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return environmentf("%w", err)
		}
		_, err = f.Write(data)
		if err = errors.Join(err, f.Close()); err != nil {
			return environmentf("%w", err)
		}
		return nil
	}
	if err := atomicfile.Write(path, data, atomicfile.Options{Mode: 0o644}); err != nil {
		return environmentf("%w", err)
	}
	return nil
}

// namesWithDigest is NAME@DIGEST or NAME:TAG@DIGEST of each tag, one a line.
func namesWithDigest(r *builder.Result, tags bool) string {
	var lines []string
	for _, t := range r.Tags {
		name := t
		if ref, err := imageref.Parse(t); err == nil && !tags {
			name = ref.Name()
		}
		lines = append(lines, name+"@"+r.Manifest.Digest.String())
	}
	return strings.Join(lines, "\n")
}

// metadata is the content of --metadata-file: buildx's keys, and ours under gobuild.
func metadata(r *builder.Result, failure error) map[string]any {
	m := map[string]any{}
	if r != nil && failure == nil {
		m["containerimage.digest"] = r.Manifest.Digest
		if r.Config.Digest != "" || r.Manifest.Digest == "" {
			m["containerimage.config.digest"] = r.Config.Digest
		}
		m["containerimage.descriptor"] = r.Manifest
		if len(r.Tags) > 0 {
			m["image.name"] = strings.Join(r.Tags, ",")
		}
		addProvenance(m, r)
	}
	if r != nil {
		cached := 0
		for _, s := range r.Steps {
			if s.Cached {
				cached++
			}
		}
		m["gobuild.steps"] = append([]builder.StepResult{}, r.Steps...)
		m["gobuild.cachedSteps"] = cached
		m["gobuild.warnings"] = append([]string{}, r.Warnings...)
		m["gobuild.pushed"] = append([]string{}, r.Pushed...)
		m["gobuild.elapsedNs"] = r.Elapsed
	}
	m["gobuild.version"] = buildVersion().Version
	m["gobuild.success"] = failure == nil
	if failure != nil {
		m["gobuild.error"] = failureMetadata(failure)
	}
	return m
}

// addProvenance has buildx's keys: one for one platform, and one a platform for several (FEATURES K6).
func addProvenance(m map[string]any, r *builder.Result) {
	const key = "buildx.build.provenance"
	for platform, predicate := range r.Provenance {
		if len(r.Provenance) == 1 {
			m[key] = predicate
		} else {
			m[key+"/"+platform] = predicate
		}
	}
}

func failureMetadata(failure error) map[string]any {
	m := map[string]any{"message": failure.Error(), "gobuildExitCode": exitCode(failure)}
	var be *builder.Error
	if !errors.As(failure, &be) {
		return m
	}
	m["category"] = be.Category
	if be.Hint != "" {
		m["hint"] = be.Hint
	}
	if be.File != "" {
		m["file"] = be.File
		m["range"] = be.Pos
	}
	if be.Step != nil {
		m["step"] = map[string]any{"stage": be.Step.Stage, "number": be.Step.Number, "total": be.Step.Total, "text": be.Step.Text, "line": be.Step.Line}
	}
	if be.ExitCode != 0 {
		m["exitCode"] = be.ExitCode
	}
	return m
}
