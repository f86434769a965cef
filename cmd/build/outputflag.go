package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tonistiigi/go-csvvalue"

	"gobuild/builder"
)

// outputTypes are the values of type= (FEATURES K2), with what each does with dest=.
var outputTypes = map[string]destRule{
	"image":     destNever,
	"registry":  destNever,
	"cacheonly": destNever,
	"oci":       destFile,
	"docker":    destFile,
	"tar":       destFile,
	"local":     destDir,
}

type destRule int

const (
	destNever destRule = iota
	destFile           // a file, or - for standard output
	destDir            // a directory
)

// fillOutputs parses every -o, and adds what --push and --load stand for. It
// says whether an output takes standard output.
func (a *app) fillOutputs(opt *builder.Options, f flags) (stdoutTaken bool, err error) {
	dests := map[string]bool{}
	for _, s := range f.list("output") {
		o, err := a.output(s)
		if err != nil {
			return false, fmt.Errorf("--output=%s: %w", s, err)
		}
		if o.Dest != "" {
			if dests[o.Dest] {
				return false, usagef("--output=%s: an earlier output has the same destination", s)
			}
			dests[o.Dest] = true
		}
		opt.Outputs = append(opt.Outputs, o)
	}
	if dests["-"] && f.is("quiet") {
		return false, usagef("-q and an output to standard output exclude each other")
	}
	return dests["-"], addPush(opt, f)
}

// output parses one -o: CSV, or a bare path, or -.
func (a *app) output(s string) (builder.Output, error) {
	var none builder.Output
	if s == "" {
		return none, usagef("want a directory, - or type=...")
	}
	fields, err := csvvalue.Fields(s, nil)
	if err != nil {
		return none, usagef("%w", err)
	}
	if len(fields) == 1 && !strings.HasPrefix(s, "type=") {
		// As in buildx a single field without type= is a path, whatever it looks like.
		if s == "-" {
			return a.destination(builder.Output{Type: "tar", Dest: "-", Attrs: map[string]string{}}, destFile)
		}
		return a.destination(builder.Output{Type: "local", Dest: s, Attrs: map[string]string{}}, destDir)
	}
	o := builder.Output{Tar: true, Attrs: map[string]string{}}
	for _, field := range fields {
		if err := addOutputKey(&o, field); err != nil {
			return none, err
		}
	}
	rule, known := outputTypes[o.Type]
	switch {
	case o.Type == "":
		return none, usagef("type= is missing")
	case !known:
		e := usagef("unknown type %q", o.Type)
		if near := nearest(o.Type, sortedKeys(outputTypes)); near != "" {
			return none, hint(e, "did you mean "+near+"?")
		}
		return none, hint(e, "the types are "+strings.Join(sortedKeys(outputTypes), ", "))
	case !o.Tar && o.Type != "oci":
		return none, usagef("tar=false is for type=oci")
	case !o.Tar:
		rule = destDir
	}
	o.Tar = o.Type == "oci" && o.Tar
	return a.destination(o, rule)
}

func addOutputKey(o *builder.Output, field string) error {
	key, value, ok := strings.Cut(field, "=")
	key = strings.ToLower(strings.TrimSpace(key))
	if !ok || key == "" {
		return usagef("%q is not key=value", field)
	}
	if _, twice := o.Attrs[key]; twice || key == "type" && o.Type != "" || key == "dest" && o.Dest != "" {
		return usagef("key %s is given twice", key)
	}
	switch key {
	case "type":
		o.Type = value
	case "dest":
		o.Dest = value
	case "tar":
		tar, err := strconv.ParseBool(value)
		if err != nil {
			return usagef("tar=%s: want true or false", value)
		}
		o.Tar = tar
	default:
		o.Attrs[key] = value
	}
	return nil
}

// destination checks dest and makes it absolute.
func (a *app) destination(o builder.Output, rule destRule) (builder.Output, error) {
	switch {
	case rule == destNever && o.Dest != "":
		return o, usagef("type=%s has no destination", o.Type)
	case rule == destNever:
		return o, nil
	case o.Dest == "" && rule == destFile:
		return o, hint(usagef("type=%s needs a destination", o.Type), "add dest=FILE, or dest=- for standard output")
	case o.Dest == "":
		return o, hint(usagef("type=%s needs a destination", o.Type), "add dest=DIRECTORY")
	case o.Dest == "-" && rule == destDir:
		return o, usagef("a directory cannot be written to standard output")
	case o.Dest == "-" && isTerminal(a.stdout):
		return o, hint(usagef("refused to write an archive to the terminal"), "redirect standard output, or give dest=FILE")
	case o.Dest == "-":
		o.Out = a.stdout
		return o, nil
	}
	abs, err := filepath.Abs(o.Dest)
	if err != nil {
		return o, environmentf("%w", err)
	}
	o.Dest = abs
	return o, nil
}

// addPush makes --push what K5 says: an image output that is pushed, under the -t names.
func addPush(opt *builder.Options, f flags) error {
	if !f.is("push") {
		return nil
	}
	for i, o := range opt.Outputs {
		if o.Type == "image" || o.Type == "registry" {
			if o.Attrs["push"] == "false" {
				return usagef("--push and push=false exclude each other")
			}
			opt.Outputs[i].Type = "registry"
			return needName(opt, o)
		}
	}
	o := builder.Output{Type: "registry", Attrs: map[string]string{}}
	opt.Outputs = append(opt.Outputs, o)
	return needName(opt, o)
}

func needName(opt *builder.Options, o builder.Output) error {
	if len(opt.Tags) == 0 && o.Attrs["name"] == "" {
		return hint(usagef("--push needs a name"), "give -t NAME")
	}
	return nil
}
