package stages

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// scriptDir is where a RUN finds its heredoc script.
const scriptDir = "/dev/pipes/"

// runStep evaluates RUN (B20-B30).
func (s *state) runStep(c *command, cmd *instructions.RunCommand) error {
	if s.runsOn.OS == "windows" {
		return fmt.Errorf("RUN on Windows is %w", ErrUnsupported)
	}
	if len(c.origins) > 0 {
		// Expanding mounts changes the command: work on a copy of our own.
		v, err := parseInstruction(c.node, s.planner.file.escape, nil)
		if err != nil {
			return err
		}
		cmd = v.(*instructions.RunCommand)
		if err := cmd.Expand(s.word); err != nil {
			return withHint(cause(err), syntaxHint("RUN", cause(err).Error()))
		}
	}
	r := &Run{Dir: s.dir(), User: s.out.Image.Config.User}
	r.Args, r.Files = s.command(cmd)
	for _, f := range r.Files {
		if err := checkHeredocName(f.Name); err != nil {
			return err
		}
	}
	if _, ok := s.env.Get(""); ok {
		return withHint(errors.New("the environment has a variable without a name"), "look for an ENV whose name expands to nothing")
	}
	masked, err := s.mounts(r, cmd, c.origins)
	if err != nil {
		return err
	}
	if err := s.privileges(r, cmd); err != nil {
		return err
	}
	if err := s.credentialsOfTrigger(r, c.onBuild); err != nil {
		return err
	}
	r.Env = s.runEnv()
	shown := r.Args
	if len(r.Files) > 0 {
		shown = s.withShell(shown) // tools know the reference's text
	}
	created, err := s.runHistory(shown)
	if err != nil {
		return err
	}
	if err := s.planner.x.budget.spend(textLen(r.Args)); err != nil {
		return err
	}
	return s.step(c, Step{Text: s.text(c, true, masked), Run: r}, created)
}

// command is the argv of a RUN, and the script it executes if that is a heredoc
// of its own (A16).
func (s *state) command(cmd *instructions.RunCommand) ([]string, []Inline) {
	args := cmd.CmdLine
	if !cmd.PrependShell {
		return slices.Clone(args), nil
	}
	if len(cmd.Files) == 0 {
		return s.withShell(args), nil
	}
	first := cmd.Files[0]
	if parser.MustParseHeredoc(args[0]) == nil {
		// More than the heredoc word: the shell is given what was written.
		var b strings.Builder
		b.WriteString(args[0])
		for _, f := range cmd.Files {
			b.WriteString("\n" + f.Data + f.Name)
		}
		return s.withShell([]string{b.String()}), nil
	}
	data := first.Data
	if first.Chomp {
		data = parser.ChompHeredocContent(data)
	}
	if strings.HasPrefix(data, "#!") {
		// The kernel reads the #! line: SHELL has no part in it, and the script
		// runs where there is no shell at all.
		return []string{scriptDir + first.Name}, []Inline{{Name: first.Name, Data: data}}
	}
	return s.withShell([]string{data}), nil
}

// withShell prepends the SHELL in force to the shell form of a command.
func (s *state) withShell(args []string) []string {
	sh := s.out.Image.Config.Shell
	if len(sh) == 0 {
		sh = []string{"/bin/sh", "-c"}
		if s.out.Image.OS == "windows" { // CMD and ENTRYPOINT only
			sh = []string{"cmd", "/S", "/C"}
		}
	}
	return append(slices.Clone(sh), strings.Join(args, " "))
}

// runEnv is the environment of a RUN. It is shared by all RUNs between two
// changes.
func (s *state) runEnv() []string {
	if s.sshAuthSock == "" {
		return s.env.lend()
	}
	env := s.env.fork()
	env.set("SSH_AUTH_SOCK", s.sshAuthSock)
	s.sshAuthSock = ""
	return env.list
}

// runHistory is the created_by text of a RUN (H6): the ARGs declared so far, in
// order, with the values in force, and the command.
func (s *state) runHistory(args []string) (string, error) {
	words := []string{"RUN"}
	if n := len(s.args.list); n > 0 {
		words = append(words, fmt.Sprintf("|%d", n))
		for _, kv := range s.args.list {
			key, _, _ := strings.Cut(kv, "=")
			if v, ok := s.env.Get(key); ok {
				kv = key + "=" + v
			}
			words = append(words, kv)
		}
	}
	words = append(append(words, args...), "# buildkit")
	if n := textLen(words); s.size+n > maxConfig {
		return "", errConfigSize
	}
	return strings.Join(words, " "), nil
}

// privileges checks what the command asks for beyond the ordinary (B28-B30).
func (s *state) privileges(r *Run, cmd *instructions.RunCommand) error {
	opt := s.planner.opt
	if n := instructions.GetNetwork(cmd); n != instructions.NetworkDefault {
		r.Network = n
	}
	if r.Network == instructions.NetworkHost && opt.Network != "host" && !slices.Contains(opt.Allow, "network.host") {
		return withHint(fmt.Errorf("--network=host is %w", ErrNotAllowed), "build with --allow network.host")
	}
	if instructions.GetSecurity(cmd) == instructions.SecurityInsecure {
		if !slices.Contains(opt.Allow, "security.insecure") {
			return withHint(fmt.Errorf("--security=insecure is %w", ErrNotAllowed), "build with --allow security.insecure")
		}
		r.Security = instructions.SecurityInsecure
	}
	for _, d := range instructions.GetDevices(cmd) {
		if d.Name == "" {
			return fmt.Errorf("--device has no name")
		}
		kind, _, _ := strings.Cut(d.Name, "=") // or, of a path, the path
		kind, _, _ = strings.Cut(kind, ":")
		if !slices.Contains(opt.Allow, "device") && !slices.Contains(opt.Allow, "device="+d.Name) && !slices.Contains(opt.Allow, "device="+kind) {
			return withHint(fmt.Errorf("--device=%s is %w", cut(d.Name, maxQuoted), ErrNotAllowed), "build with --allow device="+cut(d.Name, maxQuoted))
		}
		r.Devices = append(r.Devices, Device{Name: d.Name, Required: d.Required})
		if !s.planner.file.labs {
			s.planner.notice(NoticeLabsFeature, "RUN --device is a feature of docker/dockerfile:labs", span(cmd.Location()))
		}
	}
	return nil
}

// credentialsOfTrigger refuses secrets and agents to a RUN that the base image brought: the user gave them to this Dockerfile, and
// may not know what the image does. Triggers of a stage are this Dockerfile's own.
func (s *state) credentialsOfTrigger(r *Run, onBuild string) error {
	if onBuild == "" || s.out.Base.Kind == SourceStage {
		return nil
	}
	for _, m := range r.Mounts {
		if m.Type != MountSecret && m.Type != MountSSH {
			continue
		}
		if need := "onbuild." + string(m.Type); !slices.Contains(s.planner.opt.Allow, need) {
			return withHint(fmt.Errorf("--mount=type=%s in a trigger of the base image is %w", m.Type, ErrNotAllowed), "if the image is to have it, build with --allow "+need)
		}
	}
	return nil
}

// mounts fills in the mounts of a RUN, and returns the variables that its
// display must not show a value of.
func (s *state) mounts(r *Run, cmd *instructions.RunCommand, origins []origin) (map[string]string, error) {
	masked := map[string]string{}
	s.sshSockets = 0
	for i, m := range instructions.GetMounts(cmd) {
		mount, err := s.mount(m, origins[i])
		if err != nil {
			return nil, fmt.Errorf("--mount=type=%s: %w", m.Type, err)
		}
		if mount.Target == "/" {
			return nil, fmt.Errorf("--mount=type=%s: the target is the root directory", m.Type)
		}
		if mount.Env != "" {
			masked[mount.Env] = "****"
		}
		r.Mounts = append(r.Mounts, mount)
	}
	slices.SortStableFunc(r.Mounts, func(a, b Mount) int { return strings.Compare(a.Target, b.Target) })
	return masked, nil
}

func (s *state) mount(m *instructions.Mount, o origin) (Mount, error) {
	out := Mount{Type: MountType(m.Type), ReadOnly: m.ReadOnly, ID: m.CacheID, Required: m.Required,
		Mode: narrow(m.Mode), UID: narrow(m.UID), GID: narrow(m.GID)}
	if err := checkMountKeys(m); err != nil {
		return out, err
	}
	if m.Target != "" {
		out.Target = path.Join(s.dir(), m.Target)
		if path.IsAbs(m.Target) {
			out.Target = path.Clean(m.Target)
		}
	}
	var err error
	switch m.Type {
	case instructions.MountTypeBind:
		err = s.bindMount(&out, m, o)
	case instructions.MountTypeCache:
		err = s.cacheMount(&out, m, o)
	case instructions.MountTypeTmpfs:
		out.Size = m.SizeLimit
		if out.Target == "" {
			out.Target = s.dir()
		}
	case instructions.MountTypeSecret:
		err = secretMount(&out, m)
	case instructions.MountTypeSSH:
		s.sshMount(&out, m)
	}
	return out, err
}

// checkMountKeys refuses keys that mean nothing for the type and that the
// reference ignores (B24, B27).
func checkMountKeys(m *instructions.Mount) error {
	for _, k := range []struct {
		set   bool
		name  string
		types []instructions.MountType
	}{
		{m.From != "", "from", []instructions.MountType{instructions.MountTypeBind, instructions.MountTypeCache}},
		{m.Source != "", "source", []instructions.MountType{instructions.MountTypeBind, instructions.MountTypeCache, instructions.MountTypeSecret}},
		{m.CacheID != "", "id", []instructions.MountType{instructions.MountTypeCache, instructions.MountTypeSecret, instructions.MountTypeSSH}},
		{m.Env != nil, "env", []instructions.MountType{instructions.MountTypeSecret}},
		{m.SizeLimit != 0, "size", []instructions.MountType{instructions.MountTypeTmpfs}},
		{m.Required, "required", []instructions.MountType{instructions.MountTypeSecret, instructions.MountTypeSSH}},
	} {
		if k.set && !slices.Contains(k.types, m.Type) {
			return fmt.Errorf("%s is not allowed for this type", k.name)
		}
	}
	if m.SizeLimit < 0 {
		return fmt.Errorf("size is negative")
	}
	return nil
}

// bindMount is B22. Without a target the reference takes the working directory.
func (s *state) bindMount(out *Mount, m *instructions.Mount, o origin) (err error) {
	out.From, out.Path = Source{Kind: SourceContext}, path.Join("/", m.Source)
	if out.Target == "" {
		out.Target = s.dir()
	}
	if m.From != "" {
		out.From, err = s.source(o)
	}
	return err
}

// cacheMount is B23.
func (s *state) cacheMount(out *Mount, m *instructions.Mount, o origin) (err error) {
	if m.Target == "" {
		return fmt.Errorf("target is missing")
	}
	if out.Sharing = string(m.CacheSharing); out.Sharing == "" {
		out.Sharing = string(instructions.MountSharingShared)
	}
	if out.ID == "" {
		out.ID = path.Clean(m.Target)
	}
	out.Namespace = s.planner.opt.BuildArgs["BUILDKIT_CACHE_MOUNT_NS"]
	switch {
	case m.From != "":
		out.Path = path.Join("/", m.Source)
		out.From, err = s.source(o)
	case m.Source != "":
		err = fmt.Errorf("source needs a from")
	}
	return err
}

// secretMount is B25.
func secretMount(out *Mount, m *instructions.Mount) error {
	out.ReadOnly = true
	if m.Source != "" {
		out.ID = m.Source
	}
	if out.ID == "" {
		out.ID = path.Base(m.Target)
	}
	if m.Env != nil {
		if *m.Env == "" || strings.ContainsAny(*m.Env, "=\x00") {
			return fmt.Errorf("env is not the name of a variable")
		}
		out.Env = *m.Env
		return nil
	}
	if m.Target == "" {
		name := path.Base(path.Join("/", out.ID))
		if name == "/" {
			return fmt.Errorf("id %s names no file", quoteShort(out.ID))
		}
		out.Target = "/run/secrets/" + name
	}
	return nil
}

// sshMount is B26.
func (s *state) sshMount(out *Mount, m *instructions.Mount) {
	out.ReadOnly = true
	if out.ID == "" {
		out.ID = "default"
	}
	if m.Target == "" {
		out.Target = fmt.Sprintf("/run/buildkit/ssh_agent.%d", s.sshSockets)
	}
	if _, set := s.env.Get("SSH_AUTH_SOCK"); s.sshSockets == 0 && !set {
		s.sshAuthSock = out.Target
	}
	s.sshSockets++
}

func narrow(v *uint64) *uint32 {
	if v == nil {
		return nil
	}
	n := uint32(*v) //nolint:gosec // the parser reads 32 bits
	return &n
}
