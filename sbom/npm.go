package sbom

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

// npmEntry is a package of a lock file, of whichever version.
type npmEntry struct {
	Name      string          `json:"name"` // of an alias
	Version   string          `json:"version"`
	Integrity string          `json:"integrity"`
	License   json.RawMessage `json:"license"`
	Link      bool            `json:"link"`
}

// npmNested is the form of lock files before version 2: packages inside packages.
type npmNested struct {
	Version      string               `json:"version"`
	Integrity    string               `json:"integrity"`
	Dependencies map[string]npmNested `json:"dependencies"`
}

// npmLock reads package-lock.json, and .package-lock.json, which npm leaves in node_modules.
func (s *scan) npmLock(name string, f *os.File, size int64) error {
	data, err := whole(f, size, maxListFile)
	if err != nil {
		return err
	}
	var lock struct {
		Packages     map[string]npmEntry `json:"packages"`
		Dependencies json.RawMessage     `json:"dependencies"`
	}
	if err := json.Unmarshal(data, &lock); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(lock.Packages)) {
		e := lock.Packages[key]
		_, base, inModules := cutLast(key, "node_modules/")
		if e.Name != "" {
			base = e.Name
		}
		if !inModules || e.Link || e.Version == "" {
			continue // the project itself, or a folder of it
		}
		if err := s.addNPM(name, base, e.Version, licenseOf(e.License), e.Integrity); err != nil {
			return err
		}
	}
	if lock.Packages != nil || len(lock.Dependencies) == 0 {
		return nil
	}
	var nested map[string]npmNested
	if err := json.Unmarshal(lock.Dependencies, &nested); err != nil {
		return err
	}
	return s.addNested(name, nested)
}

func (s *scan) addNested(name string, list map[string]npmNested) error {
	for _, base := range slices.Sorted(maps.Keys(list)) {
		e := list[base]
		if strings.HasPrefix(e.Version, "file:") {
			continue
		}
		if err := s.addNPM(name, base, e.Version, "", e.Integrity); err != nil {
			return err
		}
		if err := s.addNested(name, e.Dependencies); err != nil {
			return err
		}
	}
	return nil
}

func cutLast(text, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(text, sep); i >= 0 {
		return text[:i], text[i+len(sep):], true
	}
	return text, "", false
}

// isModule says that a folder is a package below node_modules.
func isModule(dir string) bool {
	parent := path.Dir(dir)
	if strings.HasPrefix(path.Base(parent), "@") {
		parent = path.Dir(parent)
	}
	return path.Base(parent) == "node_modules"
}

// npmPackage reads the description of an installed package.
func (s *scan) npmPackage(name string, f *os.File, size int64) error {
	data, err := whole(f, size, maxManifest)
	if err != nil {
		return err
	}
	var e struct {
		Name    string          `json:"name"`
		Version string          `json:"version"`
		License json.RawMessage `json:"license"`
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return err
	}
	if e.Name == "" || e.Version == "" {
		return nil // part of a package
	}
	return s.addNPM(name, e.Name, e.Version, licenseOf(e.License), "")
}

// licenseOf reads "MIT" and the older {"type": "MIT"}.
func licenseOf(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var old struct {
		Type string `json:"type"`
	}
	_ = json.Unmarshal(raw, &old) // neither: no license
	return old.Type
}

func (s *scan) addNPM(name, base, version, license, integrity string) error {
	p := library("npm", base, version)
	p.License = license
	p.Checksums = integritySums(integrity)
	return s.add(name, p)
}

// integritySums reads "sha512-BASE64 sha1-BASE64" (W3C Subresource Integrity).
func integritySums(text string) []Sum {
	var list []Sum
	for _, word := range strings.Fields(text) {
		kind, value, _ := strings.Cut(word, "-")
		raw, err := base64.StdEncoding.DecodeString(value)
		size := map[string]int{"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}[kind]
		if err == nil && size > 0 && len(raw) == size {
			list = append(list, Sum{strings.ToUpper(kind), hex.EncodeToString(raw)})
		}
	}
	return list
}

// yarnLock reads the lock files of yarn 1, and of later versions, whose form is almost the same.
func (s *scan) yarnLock(name string, f *os.File, size int64) error {
	base := ""
	return s.lines(f, size, maxListFile, func(line string) error {
		if line == "" || line[0] == '#' {
			return nil
		}
		if line[0] != ' ' {
			base = yarnName(line)
			return nil
		}
		version, ok := strings.CutPrefix(line, "  version")
		version = strings.Trim(strings.TrimPrefix(version, ":"), ` "`)
		if !ok || base == "" || version == "" || strings.HasPrefix(version, "0.0.0-use.local") {
			return nil
		}
		err := s.add(name, library("npm", base, version))
		base = ""
		return err
	})
}

// yarnName is the name in a line of ranges: "@scope/name@^1.0.0", "@scope/name@npm:^1.1.0":
func yarnName(line string) string {
	first, _, _ := strings.Cut(strings.TrimSuffix(line, ":"), ",")
	first = strings.Trim(first, ` "`)
	at := strings.Index(first[min(1, len(first)):], "@")
	if at < 0 {
		return ""
	}
	base, wanted := first[:at+1], first[at+2:]
	if alias, ok := strings.CutPrefix(wanted, "npm:"); ok {
		if i := strings.LastIndex(alias, "@"); i > 0 {
			return alias[:i]
		}
	}
	return base
}

// pnpmLock reads the list of packages of a pnpm-lock.yaml. pnpm writes it in one form: keys of two spaces, below "packages:".
func (s *scan) pnpmLock(name string, f *os.File, size int64) error {
	section, base, version, integrity := "", "", "", ""
	flush := func() error {
		if base == "" {
			return nil
		}
		err := s.addNPM(name, base, version, "", integrity)
		base = ""
		return err
	}
	err := s.lines(f, size, maxListFile, func(line string) error {
		switch trimmed := strings.TrimLeft(line, " "); {
		case trimmed == "" || trimmed[0] == '#':
		case len(trimmed) == len(line):
			section = strings.TrimSuffix(line, ":")
			return flush()
		case section == "packages" && len(line)-len(trimmed) == 2:
			if err := flush(); err != nil {
				return err
			}
			base, version = pnpmPackage(strings.Trim(strings.TrimSuffix(trimmed, ":"), `'"`))
			integrity = ""
		case base != "" && strings.HasPrefix(trimmed, "resolution:"):
			_, rest, _ := strings.Cut(trimmed, "integrity: ")
			integrity, _, _ = strings.Cut(strings.TrimSuffix(rest, "}"), ",")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// pnpmPackage tells name and version of a key: name@1.0.0 since version 9, /name@1.0.0(peers) since 6, and /name/1.0.0_peers before.
// What comes from a folder, a repository or an address has neither here.
func pnpmPackage(key string) (name, version string) {
	key, _, _ = strings.Cut(key, "(")
	rest, slashed := strings.CutPrefix(key, "/")
	before, last, _ := cutLast(rest, "/")
	if v, _, _ := strings.Cut(last, "_"); slashed && strings.Count(v, ".") >= 2 && !strings.Contains(v, "@") {
		name, version = before, v
	} else if i := strings.LastIndex(rest, "@"); i > 0 {
		name, version = rest[:i], rest[i+1:]
	}
	if strings.ContainsAny(version, ":/") || version == "" || version[0] < '0' || version[0] > '9' {
		return "", ""
	}
	return name, version
}
