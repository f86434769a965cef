package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"gobuild/ui"
)

// configName is the configuration file (FEATURES N1), below $XDG_CONFIG_HOME and /etc. None is looked for in the working folder or in
// a context: these are where a stranger's files are, and a flag may allow what a stranger must not have.
const configName = "gobuild/gobuild.toml"

// setting is one line of a configuration file.
type setting struct {
	command string // of the table that it stands in; "" for all commands that have the flag
	flag    string
	values  []string
	place   string // file and line
}

// fromConfig fills flags that neither the command line nor the environment names from the configuration file: what is said for the command
// before what is said for all, the user's file before the system's.
func (a *app) fromConfig(command string, f flags) error {
	files, err := a.configFiles(f)
	if err != nil {
		return err
	}
	taken := map[string]bool{}
	for _, file := range files {
		list, err := readConfig(file)
		if !f.given("config") && errors.Is(err, fs.ErrPermission) { // a HOME that is another user's, as under sudo
			a.printer.Notice("the configuration file counts for nothing: " + err.Error())
			continue
		}
		if err != nil {
			return err
		}
		for _, own := range []bool{true, false} {
			for _, s := range list {
				v := f[s.flag]
				if v == nil || own != (s.command != "") || s.command != "" && s.command != command || taken[s.flag] || v.origin == fromFlag || v.origin == fromEnv {
					continue
				}
				taken[s.flag] = true
				if err := v.take(s); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (v *flagValue) take(s setting) error {
	if len(s.values) > 1 && v.spec.kind != kindList {
		return usagef("%s: %s: want one value", s.place, s.flag)
	}
	for _, value := range s.values {
		if err := v.Set(value); err != nil {
			return usagef("%s: %s = %q: %w", s.place, s.flag, value, err)
		}
	}
	v.origin, v.place = fromFile, s.place
	return nil
}

// configFiles are those that there are. One that --config names must be there, and is the only one.
func (a *app) configFiles(f flags) ([]string, error) {
	if f.given("config") {
		path := f.str("config")
		if path == "" {
			return nil, nil
		}
		path, err := existingFile("config", path)
		return []string{path}, err
	}
	var files []string
	if dir := a.env["XDG_CONFIG_HOME"]; filepath.IsAbs(dir) {
		files = append(files, filepath.Join(dir, configName))
	} else if home := a.env["HOME"]; filepath.IsAbs(home) {
		files = append(files, filepath.Join(home, ".config", configName))
	}
	return append(files, filepath.Join("/etc", configName)), nil
}

// readConfig reads a configuration file; one that is not there, since its folder is not or is none, says nothing.
func readConfig(name string) ([]setting, error) {
	data, err := readBounded(name, maxConfig)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, usagef("read configuration: %w", err)
	}
	list, err := parseConfig(name, data)
	if err != nil {
		return nil, err
	}
	return list, nil
}

// parseConfig takes a file apart. It is valid TOML first: the parser that knows lines does not see that a key is there twice.
func parseConfig(name string, data []byte) ([]setting, error) {
	var all map[string]any
	if err := toml.Unmarshal(data, &all); err != nil {
		var syntax *toml.DecodeError
		if errors.As(err, &syntax) {
			line, _ := syntax.Position()
			return nil, usagef("%s:%d: %w", name, line, err)
		}
		return nil, usagef("%s: %w", name, err)
	}
	known := flagsOfCommands()
	var list []setting
	var p unstable.Parser
	p.Reset(data)
	command := ""
	for p.NextExpression() {
		e := p.Expression()
		place := fmt.Sprintf("%s:%d", name, lineOf(data, e))
		keys := keysOf(e)
		var err error
		switch e.Kind {
		case unstable.Table:
			command, err = tableOf(place, keys, known)
		case unstable.KeyValue:
			var s setting
			s, err = settingOf(place, command, keys, e.Value(), known)
			list = append(list, s)
		default:
			err = usagef("%s: want flags, and tables of commands", place)
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// lineOf is where an expression begins.
func lineOf(data []byte, e *unstable.Node) int {
	it := e.Key()
	if !it.Next() {
		return 1
	}
	at := int(it.Node().Raw.Offset)
	return 1 + bytes.Count(data[:min(at, len(data))], []byte("\n"))
}

func keysOf(e *unstable.Node) []string {
	var keys []string
	for it := e.Key(); it.Next(); {
		keys = append(keys, string(it.Node().Data))
	}
	return keys
}

// flagsOfCommands are the flags that each command has, and under "" those of all of them.
func flagsOfCommands() map[string]map[string]kind {
	known := map[string]map[string]kind{"": {}}
	for _, c := range commands() {
		own := map[string]kind{}
		table := globalFlags()
		if c.flags != nil {
			table = append(table, c.flags()...)
		}
		for _, row := range table {
			if row.name != "config" {
				own[row.name], known[""][row.name] = row.kind, row.kind
			}
		}
		known[c.name] = own
	}
	return known
}

func tableOf(place string, keys []string, known map[string]map[string]kind) (string, error) {
	if len(keys) == 1 && keys[0] != "" && known[keys[0]] != nil {
		return keys[0], nil
	}
	e := usagef("%s: there is no command %s", place, ui.Line(fmt.Sprintf("%q", keys)))
	if near := nearest(keys[0], sortedKeys(known)); near != "" {
		return "", hint(e, "did you mean ["+near+"]?")
	}
	return "", hint(e, "a table has the name of a command, such as [build]")
}

func settingOf(place, command string, keys []string, value *unstable.Node, known map[string]map[string]kind) (setting, error) {
	s := setting{command: command, flag: keys[0], place: place}
	have := known[command]
	if _, ok := have[s.flag]; !ok || len(keys) > 1 {
		e := usagef("%s: there is no flag --%s", place, ui.Line(keys[0]))
		if len(keys) > 1 {
			e = usagef("%s: a key is the name of a flag, without dots", place)
		} else if command != "" {
			e = usagef("%s: gobuild %s has no flag --%s", place, command, ui.Line(s.flag))
		}
		if near := nearest(s.flag, sortedKeys(have)); near != "" && len(keys) == 1 {
			return s, hint(e, "did you mean "+near+"?")
		}
		return s, hint(e, "gobuild help "+command+" lists the flags")
	}
	var err error
	if s.values, err = valuesOf(value); err != nil {
		return s, usagef("%s: %s: %w", place, s.flag, err)
	}
	return s, nil
}

var errConfigValue = errors.New("want a text, a number, true or false, or a list of texts")

// valuesOf is a value as the command line would have it.
func valuesOf(v *unstable.Node) ([]string, error) {
	switch v.Kind {
	case unstable.String, unstable.Bool, unstable.Integer, unstable.Float:
		return []string{string(v.Data)}, nil
	case unstable.Array:
		var list []string
		for it := v.Children(); it.Next(); {
			n := it.Node()
			if n.Kind == unstable.Comment {
				continue
			}
			if !slices.Contains([]unstable.Kind{unstable.String, unstable.Integer}, n.Kind) {
				return nil, errConfigValue
			}
			list = append(list, string(n.Data))
		}
		return list, nil
	default:
		return nil, errConfigValue
	}
}
