package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// origin says where a flag's value came from.
type origin string

const (
	fromDefault origin = "default"
	fromFile    origin = "configuration"
	fromEnv     origin = "environment"
	fromFlag    origin = "command line"
)

// flagValue holds what was given for one flag, as text. It is a pflag.Value.
type flagValue struct {
	spec   *flagSpec
	values []string
	origin origin
	place  string // file and line of a configuration
}

// Set takes one occurrence of the flag.
func (v *flagValue) Set(s string) error {
	if v.spec.kind == kindBool {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("want true or false")
		}
		s = strconv.FormatBool(b)
	}
	if v.spec.kind == kindList {
		v.values = append(v.values, s)
	} else {
		v.values = []string{s}
	}
	v.origin = fromFlag
	return nil
}

func (v *flagValue) String() string { return strings.Join(v.values, ",") }

// Type is the placeholder in the help.
func (v *flagValue) Type() string {
	if v.spec.kind == kindBool {
		return "bool"
	}
	return v.spec.arg
}

// IsBoolFlag keeps pflag from taking the next word as a value.
func (v *flagValue) IsBoolFlag() bool { return v.spec.kind == kindBool }

// flags are the parsed flags of a command, by name.
type flags map[string]*flagValue

// register adds the rows of a table to a flag set.
func (f flags) register(fs *pflag.FlagSet, table []flagSpec) {
	for i := range table {
		spec := &table[i]
		v := &flagValue{spec: spec, origin: fromDefault}
		f[spec.name] = v
		flag := fs.VarPF(v, spec.name, spec.short, spec.text)
		flag.NoOptDefVal = spec.bare
		if spec.kind == kindBool {
			flag.NoOptDefVal = "true"
		}
		flag.Hidden = spec.does != yes
	}
}

// fromEnvironment fills flags that the command line does not name from GOBUILD_<FLAG>. A list has one value per line.
func (f flags) fromEnvironment(env environ) error {
	for name, v := range f {
		key := envName(name)
		s, ok := env.lookup(key)
		if !ok || s == "" || v.origin == fromFlag {
			continue
		}
		values := []string{s}
		if v.spec.kind == kindList {
			values = strings.Split(strings.Trim(s, "\n"), "\n")
		}
		for _, one := range values {
			if err := v.Set(one); err != nil {
				return usagef("%s=%s: %w", key, s, err)
			}
		}
		v.origin = fromEnv
	}
	return nil
}

// judge applies the verdicts: the error of the first flag that cannot be obeyed, in order of name,
// and the notices of those that have no effect.
func (f flags) judge() (notices []string, err error) {
	for _, name := range sortedKeys(f) {
		v := f[name]
		for i, value := range v.values {
			does, text := v.spec.verdict(value)
			shown := v.shown(value)
			switch does {
			case yes:
			case noop:
				if i == 0 {
					notices = append(notices, fmt.Sprintf("%s has no effect: %s", shown, text))
				}
			case no:
				return nil, hint(usagef("%s is not supported", shown), text)
			case later:
				return nil, hint(usagef("%s is not supported yet", shown), text)
			}
		}
	}
	return notices, nil
}

// shown names the flag as the user knows it.
func (v *flagValue) shown(value string) string {
	s := "--" + v.spec.name
	if v.spec.decide != nil && v.spec.kind != kindBool {
		s += "=" + value
	}
	switch v.origin {
	case fromEnv:
		s += " (from " + envName(v.spec.name) + ")"
	case fromFile:
		s += " (from " + v.place + ")"
	case fromDefault, fromFlag:
	}
	return s
}

// envName is the variable that gives a flag its default.
func envName(flag string) string {
	return "GOBUILD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// verdict is what the row says of a value.
func (s *flagSpec) verdict(value string) (verdict, string) {
	if s.decide != nil {
		return s.decide(value)
	}
	return s.does, s.text
}

// given says that the flag was set, by whatever origin.
func (f flags) given(name string) bool { return f[name] != nil && len(f[name].values) > 0 }

// str is the value of a flag, "" when it was not given.
func (f flags) str(name string) string {
	if !f.given(name) {
		return ""
	}
	return f[name].values[len(f[name].values)-1]
}

// list is every value of a flag, in order.
func (f flags) list(name string) []string {
	if !f.given(name) {
		return nil
	}
	return f[name].values
}

// is says that a boolean flag is on.
func (f flags) is(name string) bool { return f.str(name) == "true" }

// settings lists what was set and where it came from, without values that may be secret.
func (f flags) settings() []string {
	secretive := map[string]bool{"build-arg": true, "secret": true, "env": true, "label": true, "password": true}
	var lines []string
	for _, name := range sortedKeys(f) {
		v := f[name]
		if v.origin == fromDefault {
			continue
		}
		shown := v.String()
		if name == "creds" {
			shown = "***"
		} else if secretive[name] {
			names := make([]string, len(v.values))
			for i, one := range v.values {
				names[i], _, _ = strings.Cut(one, "=")
			}
			shown = strings.Join(names, ",")
		}
		from := string(v.origin)
		if v.place != "" {
			from = v.place
		}
		lines = append(lines, fmt.Sprintf("--%s=%s (%s)", name, shown, from))
	}
	return lines
}

// flagError words an error of the flag parser, with a suggestion for an unknown flag.
func flagError(err error, fs *pflag.FlagSet) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return usagef("%w", err)
	}
	name := unknown.GetSpecifiedName()
	shown := "--" + name
	if unknown.GetSpecifiedShortnames() != "" {
		shown = "-" + name
	}
	e := usagef("unknown flag %s", shown)
	if len(name) < 2 {
		return e
	}
	var names []string
	fs.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if near := nearest(name, names); near != "" {
		return hint(e, "did you mean --"+near+"?")
	}
	return hint(e, "gobuild help build lists the flags")
}
