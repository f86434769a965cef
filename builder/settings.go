package builder

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gobuild/remote"
)

// setting is an option that decides what a build makes, under the name of its flag. What a statement or a record says of one can be
// set again, within the limits of what a stranger may ask for (FEATURES P7).
type setting struct {
	name string
	get  func(*Options) []string
	// set takes the values where the options have none. Nil: it is for the user alone to say, since it opens more of this machine to
	// steps, or means a file here.
	set func(*Options, []string) error
}

// settings is the table of them. TestP7_EveryOptionIsASettingOrDecidesNothing holds it against Options.
func settings() []setting {
	return append(append(imageSettings(), stepSettings()...), outputSettings()...)
}

func imageSettings() []setting {
	return []setting{
		word("target", func(o *Options) *string { return &o.Target }),
		word("context-sub-path", func(o *Options) *string { return &o.ContextSubPath }),
		words("platform", func(o *Options) *[]string { return &o.Platforms }),
		mapped("build-arg", func(o *Options) *map[string]string { return &o.BuildArgs }),
		mapped("label", func(o *Options) *map[string]string { return &o.Labels }),
		{"env", getEnv, setEnv},
		words("unsetenv", func(o *Options) *[]string { return &o.Unset.Env }),
		words("unsetlabel", func(o *Options) *[]string { return &o.Unset.Labels }),
		words("unsetannotation", func(o *Options) *[]string { return &o.UnsetAnnotations }),
		toggle("inherit-annotations", "true", func(o *Options) *bool { return &o.InheritAnnotations }),
		{"annotation", getAnnotations, setAnnotations},
		word("squash", func(o *Options) *string { return &o.Squash }),
		toggle("layer-xattrs", "true", func(o *Options) *bool { return &o.UserXattrs }),
		toggle("ignore-syntax", "true", func(o *Options) *bool { return &o.IgnoreSyntax }),
		{"source-date-epoch", getEpoch, setEpoch},
		{"build-context", getContexts, setContexts},
		{"ignorefile", func(o *Options) []string { return wordOf(filepath.Base(o.IgnoreFile), o.IgnoreFile != "") }, nil},
	}
}

// stepSettings are those that the keys of steps have, too (RunOptions.addTo).
func stepSettings() []setting {
	return []setting{
		{"network", one(func(o *Options) *string { return &o.Run.Network }), setNetwork},
		words("add-host", func(o *Options) *[]string { return &o.Run.AddHosts }),
		word("hostname", func(o *Options) *string { return &o.Run.Hostname }),
		{"shm-size", getShm, setShm},
		{"ulimit", getUlimits, nil},
		toggle("no-hosts", "true", func(o *Options) *bool { return &o.Run.NoHosts }),
		{"cap-add", list(func(o *Options) *[]string { return &o.Run.CapAdd }), nil},
		words("cap-drop", func(o *Options) *[]string { return &o.Run.CapDrop }),
		{"device", list(func(o *Options) *[]string { return &o.Run.Devices }), nil},
		{"security-opt", getSecurity, nil},
		toggle("dns", "none", func(o *Options) *bool { return &o.Run.DNSNone }),
	}
}

// formKeys are the keys of -o that decide the bytes of an image.
var formKeys = []string{"compression", "compression-level", "force-compression", "oci-mediatypes", "rewrite-timestamp"}

func outputSettings() []setting {
	var all []setting
	for _, key := range formKeys {
		all = append(all, setting{"output " + key, func(o *Options) []string { return formKey(o, key) }, func(o *Options, values []string) error {
			return setFormKey(o, key, values)
		}})
	}
	return append(all, setting{"cache-to", func(o *Options) []string {
		return wordOf("type=inline", slices.ContainsFunc(o.CacheTo, func(c CacheShare) bool { return c.Type == cacheInline }))
	}, func(o *Options, values []string) error {
		if !slices.Equal(values, []string{"type=inline"}) {
			return errValue
		}
		o.CacheTo = []CacheShare{{Type: cacheInline}}
		return nil
	}})
}

// errValue is a value that no build of gobuild writes down.
var errValue = errors.New("no such value")

// settingsOf is what the options say, each value through show, which hides what is secret in it.
func settingsOf(opt *Options, show func(string) string) map[string][]string {
	all := map[string][]string{}
	for _, s := range settings() {
		for _, v := range s.get(opt) {
			all[s.name] = append(all[s.name], show(v))
		}
	}
	return all
}

// wordOf is a value that is there or not.
func wordOf(word string, there bool) []string {
	if !there {
		return nil
	}
	return []string{word}
}

func one(field func(*Options) *string) func(*Options) []string {
	return func(o *Options) []string { return wordOf(*field(o), *field(o) != "") }
}

func setOne(field func(*Options) *string) func(*Options, []string) error {
	return func(o *Options, values []string) error {
		if len(values) != 1 {
			return errValue
		}
		if *field(o) == "" {
			*field(o) = values[0]
		}
		return nil
	}
}

func list(field func(*Options) *[]string) func(*Options) []string {
	return func(o *Options) []string { return *field(o) }
}

func setList(field func(*Options) *[]string) func(*Options, []string) error {
	return func(o *Options, values []string) error {
		if len(*field(o)) == 0 {
			*field(o) = slices.Clone(values)
		}
		return nil
	}
}

// word, words, toggle and mapped are settings that are a field as it is.
func word(name string, field func(*Options) *string) setting {
	return setting{name, one(field), setOne(field)}
}

func words(name string, field func(*Options) *[]string) setting {
	return setting{name, list(field), setList(field)}
}

func mapped(name string, field func(*Options) *map[string]string) setting {
	return setting{name, pairs(field), setPairs(field)}
}

func toggle(name, value string, field func(*Options) *bool) setting {
	get := func(o *Options) []string { return wordOf(value, *field(o)) }
	return setting{name, get, func(o *Options, values []string) error {
		if !slices.Equal(values, []string{value}) {
			return errValue
		}
		*field(o) = true
		return nil
	}}
}

func pairs(field func(*Options) *map[string]string) func(*Options) []string {
	return func(o *Options) []string {
		var all []string
		for _, name := range slices.Sorted(maps.Keys(*field(o))) {
			all = append(all, name+"="+MaskValue(name, (*field(o))[name]))
		}
		return all
	}
}

func setPairs(field func(*Options) *map[string]string) func(*Options, []string) error {
	return func(o *Options, values []string) error {
		all := maps.Clone(*field(o))
		if all == nil {
			all = map[string]string{}
		}
		for _, v := range values {
			name, value, ok := strings.Cut(v, "=")
			if !ok || name == "" {
				return errValue
			}
			if _, given := all[name]; !given {
				all[name] = value
			}
		}
		*field(o) = all
		return nil
	}
}

func getEnv(o *Options) []string {
	var all []string
	for _, e := range o.Env {
		name, value, _ := strings.Cut(e, "=")
		all = append(all, name+"="+MaskValue(name, value))
	}
	return all
}

func setEnv(o *Options, values []string) error {
	for _, v := range values {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
			return errValue
		}
	}
	return setList(func(o *Options) *[]string { return &o.Env })(o, values)
}

func getAnnotations(o *Options) []string {
	found, err := o.annotations()
	if err != nil {
		return nil // the build says so
	}
	var all []string
	for _, a := range found {
		on := a.On
		if a.Platform != "" {
			on += "[" + a.Platform + "]"
		}
		all = append(all, on+":"+a.Key+"="+a.Value)
	}
	slices.Sort(all) // those of outputs are in no order
	return all
}

// setAnnotations leaves out what only an index carries: images are compared one by one.
func setAnnotations(o *Options, values []string) error {
	if len(o.Annotations) > 0 {
		return nil
	}
	for _, v := range values {
		found, err := ParseAnnotation(v)
		if err != nil {
			return err
		}
		for _, a := range found {
			if a.On == onManifest {
				o.Annotations = append(o.Annotations, a)
			}
		}
	}
	return nil
}

func getEpoch(o *Options) []string {
	if o.SourceDateEpoch == nil {
		return nil
	}
	return []string{strconv.FormatInt(o.SourceDateEpoch.Unix(), 10)}
}

func setEpoch(o *Options, values []string) error {
	if o.SourceDateEpoch != nil {
		return nil
	}
	if len(values) != 1 {
		return errValue
	}
	secs, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil || secs < 0 || secs > maxEpochSeconds {
		return errValue
	}
	at := time.Unix(secs, 0).UTC()
	o.SourceDateEpoch = &at
	return nil
}

// maxEpochSeconds is the year 9999, beyond which times have no text in JSON.
const maxEpochSeconds = 253402300799

// getContexts has what lies on this machine, and what may have a secret in its address, without a value.
func getContexts(o *Options) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(o.Contexts)) {
		value := o.Contexts[name]
		switch {
		case strings.HasPrefix(value, "docker-image://"), strings.HasPrefix(value, "target:"):
		default:
			value = shownAddress(value)
		}
		all = append(all, name+"="+value)
	}
	return all
}

// shownAddress is an address that has no place for secrets, else "".
func shownAddress(value string) string {
	head, fragment, _ := strings.Cut(value, "#")
	if !isAddress(value) || remote.Redact(head) != head || strings.ContainsAny(fragment, "?&") {
		return ""
	}
	return value
}

func setContexts(o *Options, values []string) error {
	all := maps.Clone(o.Contexts)
	if all == nil {
		all = map[string]string{}
	}
	for _, v := range values {
		name, value, ok := strings.Cut(v, "=")
		if _, given := all[name]; given || value == "" {
			continue
		}
		if !ok || !strings.HasPrefix(value, "docker-image://") && !strings.HasPrefix(value, "target:") && shownAddress(value) == "" {
			return errValue
		}
		all[name] = value
	}
	o.Contexts = all
	return nil
}

// setNetwork takes what gives a step no more than it has by default.
func setNetwork(o *Options, values []string) error {
	if len(values) == 1 && slices.Contains([]string{"none", "default", "bridge"}, values[0]) {
		return setOne(func(o *Options) *string { return &o.Run.Network })(o, values)
	}
	return errNotForOthers
}

// errNotForOthers says that only the user may set something.
var errNotForOthers = errors.New("only the command line may say so")

func getShm(o *Options) []string {
	return wordOf(strconv.FormatInt(o.Run.ShmSize, 10), o.Run.ShmSize != 0)
}

func setShm(o *Options, values []string) error {
	if o.Run.ShmSize != 0 {
		return nil
	}
	if len(values) != 1 {
		return errValue
	}
	n, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil || n <= 0 {
		return errValue
	}
	o.Run.ShmSize = n
	return nil
}

func getUlimits(o *Options) []string {
	var all []string
	for _, u := range o.Run.Ulimits {
		all = append(all, fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
	}
	return all
}

func getSecurity(o *Options) []string {
	return slices.Concat(wordOf("no-new-privileges", o.Run.NoNewPrivileges), wordOf("seccomp=unconfined", o.Run.SeccompNone), wordOf("seccomp=FILE", o.Run.Seccomp != ""))
}

// formKey is a key of the first output that is an image; all outputs of a build agree (formOf).
func formKey(o *Options, key string) []string {
	for _, out := range o.Outputs {
		if slices.Contains(imageTypes, out.Type) {
			return wordOf(out.Attrs[key], out.Attrs[key] != "")
		}
	}
	return nil
}

func setFormKey(o *Options, key string, values []string) error {
	if len(values) != 1 {
		return errValue
	}
	if len(o.Outputs) == 0 {
		o.Outputs = []Output{{Type: "image", Attrs: map[string]string{}}}
	}
	o.Outputs[0].Attrs[key] = values[0]
	return nil
}
