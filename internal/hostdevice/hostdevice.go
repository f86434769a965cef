package hostdevice

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"
)

const (
	// maxSpecs bounds the files of vendors: a machine has a handful.
	maxSpecs = 1000
	// maxSpecSize bounds one of them: those of machines with many GPUs have some hundred kilobytes.
	maxSpecSize = 4 << 20
	// maxNodes bounds the nodes below a folder, of sound cards for example.
	maxNodes = 1000
)

// ErrAbsent says that there is no such device.
var ErrAbsent = errors.New("there is no such device")

// Node is one device as a container sees it.
type Node struct {
	Path         string // in the container
	Block        bool   // or else a character device
	Major, Minor uint32
	Mode         uint32 // permission bits
	UID, GID     int
	Access       string // of "rwm", for the device filter
}

// Mount is a file or folder of the machine that a device's programs need.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// Set is what devices need.
type Set struct {
	Nodes   []Node
	Env     []string
	Mounts  []Mount
	Missing []string // what the vendor asks for and is not given
}

// Dirs are the folders of vendors' files, later ones taking precedence.
func Dirs() []string { return []string{"/etc/cdi", "/var/run/cdi"} }

// IsName says whether a text has the form of a CDI name.
func IsName(s string) bool { return parser.IsQualifiedName(s) }

// Find looks for one device: a path with optional target and access, /dev/x[:/dev/y][:rwm], or a CDI name.
func Find(dirs []string, name string) (*Set, error) {
	switch {
	case strings.HasPrefix(name, "/"):
		return findPath(name)
	case IsName(name):
		return findCDI(dirs, name)
	}
	return nil, fmt.Errorf("%q is neither a path nor a name like vendor.com/class=name", name)
}

// Check says whether a text can name a device, without looking for it.
func Check(name string) error {
	if !strings.HasPrefix(name, "/") && !IsName(name) {
		return fmt.Errorf("%q is neither a path nor a name like vendor.com/class=name", name)
	}
	if strings.HasPrefix(name, "/") {
		_, _, _, err := parsePath(name)
		return err
	}
	return nil
}

// HostPath is the path of a device that is named by one, without target and access.
func HostPath(name string) string {
	host, _, _ := strings.Cut(name, ":")
	return host
}

func parsePath(text string) (host, target, access string, err error) {
	parts := strings.Split(text, ":")
	host, target, access = parts[0], parts[0], "rwm"
	for i, p := range parts[1:] {
		switch {
		case strings.HasPrefix(p, "/") && i == 0:
			target = path.Clean(p)
		case p != "" && strings.Trim(p, "rwm") == "" && i == len(parts)-2:
			access = p
		default:
			return "", "", "", fmt.Errorf("%q is not a device: want /dev/NAME[:/PATH][:rwm]", text)
		}
	}
	if !strings.HasPrefix(path.Clean(host), "/dev/") || target == "/" {
		return "", "", "", fmt.Errorf("%q is not a device: want /dev/NAME[:/PATH][:rwm]", text)
	}
	return path.Clean(host), path.Clean(target), access, nil
}

func findPath(text string) (*Set, error) {
	host, target, access, err := parsePath(text)
	if err != nil {
		return nil, err
	}
	set := &Set{}
	info, err := os.Stat(host)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", host, ErrAbsent)
	case err != nil:
		return nil, err
	case !info.IsDir():
		node, ok, err := nodeOf(host, target, access)
		if err == nil && !ok {
			err = fmt.Errorf("%s is not a device", host)
		}
		set.Nodes = []Node{node}
		return set, err
	}
	err = filepath.WalkDir(host, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		node, ok, err := nodeOf(name, path.Join(target, strings.TrimPrefix(name, host)), access)
		if ok {
			set.Nodes = append(set.Nodes, node)
		}
		if len(set.Nodes) > maxNodes {
			return fmt.Errorf("%s has more than %d devices", host, maxNodes)
		}
		return err
	})
	if err == nil && len(set.Nodes) == 0 {
		err = fmt.Errorf("%s: %w", host, ErrAbsent)
	}
	return set, err
}

func nodeOf(host, target, access string) (Node, bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(host, &st); err != nil {
		return Node{}, false, &fs.PathError{Op: "stat", Path: host, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	return Node{
		Path: target, Block: kind == unix.S_IFBLK, Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev),
		Mode: st.Mode & 0o777, UID: int(st.Uid), GID: int(st.Gid), Access: access,
	}, kind == unix.S_IFBLK || kind == unix.S_IFCHR, nil
}

func findCDI(dirs []string, name string) (*Set, error) {
	if err := checkDirs(dirs); err != nil {
		return nil, err
	}
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return nil, fmt.Errorf("read CDI files: %w", err)
	}
	if cache.GetDevice(name) == nil {
		for file, errs := range cache.GetErrors() {
			return nil, fmt.Errorf("%s: %w (and %s cannot be used: %w)", name, ErrAbsent, file, errors.Join(errs...))
		}
		return nil, fmt.Errorf("%s: %w: no file in %s has it", name, ErrAbsent, strings.Join(dirs, ", "))
	}
	spec := &specs.Spec{}
	if _, err := cache.InjectDevices(spec, name); err != nil {
		return nil, fmt.Errorf("device %s: %w", name, err)
	}
	return setOf(spec), nil
}

// checkDirs bounds what the library will read.
func checkDirs(dirs []string) error {
	files := 0
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			name := filepath.Join(dir, e.Name())
			if ext := filepath.Ext(name); ext != ".json" && ext != ".yaml" {
				continue
			}
			info, err := os.Stat(name)
			if files++; err == nil && (!info.Mode().IsRegular() || info.Size() > maxSpecSize) || files > maxSpecs {
				return fmt.Errorf("CDI files: %s is no file of at most %d bytes, or one of more than %d", name, maxSpecSize, maxSpecs)
			}
		}
	}
	return nil
}

// setOf takes what the library would have a container runtime do.
func setOf(spec *specs.Spec) *Set {
	set := &Set{}
	if spec.Process != nil {
		set.Env = spec.Process.Env
		if len(spec.Process.User.AdditionalGids) > 0 {
			set.Missing = append(set.Missing, "additional groups")
		}
	}
	for _, m := range spec.Mounts {
		source := resolved(m.Source)
		set.Mounts = append(set.Mounts, Mount{Source: source, Target: m.Destination, ReadOnly: slices.Contains(m.Options, "ro")})
	}
	if spec.Hooks != nil {
		set.Missing = append(set.Missing, "hooks")
	}
	if spec.Linux == nil {
		return set
	}
	if spec.Linux.IntelRdt != nil {
		set.Missing = append(set.Missing, "a resource class")
	}
	if len(spec.Linux.NetDevices) > 0 {
		set.Missing = append(set.Missing, "network devices")
	}
	for _, d := range spec.Linux.Devices {
		n := Node{Path: d.Path, Block: d.Type == "b", Major: uint32(d.Major), Minor: uint32(d.Minor), Mode: 0o666, Access: "rwm"}
		if d.FileMode != nil {
			n.Mode = uint32(d.FileMode.Perm())
		}
		if d.UID != nil {
			n.UID = int(*d.UID)
		}
		if d.GID != nil {
			n.GID = int(*d.GID)
		}
		n.Access = accessOf(spec.Linux.Resources, d)
		set.Nodes = append(set.Nodes, n)
	}
	return set
}

// resolved is where a vendor's path leads on this machine, which is trusted; the path itself where that cannot be told: mounting it
// says what is wrong.
func resolved(name string) string {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return name
	}
	defer unix.Close(fd)
	real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return name
	}
	return real
}

func accessOf(r *specs.LinuxResources, d specs.LinuxDevice) string {
	if r != nil {
		for _, rule := range r.Devices {
			if rule.Allow && rule.Type == d.Type && rule.Major != nil && rule.Minor != nil && *rule.Major == d.Major && *rule.Minor == d.Minor && rule.Access != "" {
				return rule.Access
			}
		}
	}
	return "rwm"
}
