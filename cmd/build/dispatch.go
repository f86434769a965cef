package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gobuild/ui"
)

// command is one row of the command table.
type command struct {
	name   string
	group  string
	short  string
	args   string // of the usage line
	long   string
	flags  func() []flagSpec // beside the global ones; called only for the command that runs
	run    func(a *app, ctx context.Context, args []string) error
	rights func(f flags) rights // nil: the user's own
	// options first: the words after the first argument belong to a command in an image.
	argsEndFlags bool
}

// commands is the table of all commands (FEATURES N9), in the order of the help.
func commands() []command {
	return []command{
		buildCommand(), checkCommand(), lintCommand(), planCommand(), contextCommand(), runCommand(), debugCommand(), executorCommand(),
		imagesCommand(), inspectCommand(), historyCommand(), filesCommand(), diffCommand(), verifyCommand(), tagCommand(), untagCommand(), rmiCommand(),
		saveCommand(), loadCommand(),
		explainCommand(), logsCommand(), reportCommand(), recordCommand(), psCommand(),
		pushCommand(), pullCommand(), copyCommand(), artifactCommand(), manifestCommand(), tagsCommand(), catalogCommand(), loginCommand(), logoutCommand(),
		duCommand(), pruneCommand(), cacheCommand(),
		doctorCommand(), versionCommand(),
	}
}

func commandNames() []string {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	return names
}

// missing are the commands that gobuild will have, with what to use until then.
func missing() map[string]string {
	return map[string]string{
		"bake": "use gobuild build once for each target", "config": "use gobuild build --debug",
		"export-mount": "use gobuild cache export-mount", "import-mount": "use gobuild cache import-mount",
		"rm-mount": "use gobuild cache rm-mount", "buildx": "use gobuild build",
		"imagetools": "use gobuild inspect",
	}
}

// daemonCommands manage BuildKit daemons under docker buildx, of which there are none here (FEATURES N4).
func daemonCommands() []string {
	return []string{"create", "use", "ls", "rm", "inspect", "bootstrap", "stop", "dial-stdio", "install", "uninstall"}
}

// invocation is a command line after its command was found.
type invocation struct {
	name string
	args []string
	bud  bool // called as buildah's bud: -D is --disable-compression
}

// resolve finds the command. Bare flags and a context mean build, and global
// flags may stand before the name (FEATURES N1, N11).
func resolve(args []string) (invocation, error) {
	i := firstWord(args)
	if i < 0 {
		return invocation{name: "build", args: args}, nil
	}
	word, rest := args[i], append(append([]string(nil), args[:i]...), args[i+1:]...)
	switch word {
	case "bud":
		return invocation{name: "build", args: rest, bud: true}, nil
	case "buildx", "builder", "cache":
		return resolveGroup(word, args[:i], args[i+1:])
	case "help":
		return resolveHelp(rest)
	case "completion":
		return resolveCompletion(rest)
	case cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd:
		return invocation{name: word, args: rest}, nil
	}
	for _, c := range commands() {
		if c.name == word {
			return invocation{name: word, args: rest}, nil
		}
	}
	if remedy, ok := missing()[word]; ok && !isDirectory(word) {
		return invocation{}, hint(usagef("gobuild %s is not supported yet", word), remedy)
	}
	for _, d := range daemonCommands() {
		if d == word && !isDirectory(word) {
			return invocation{}, hint(usagef("gobuild %s: there is no daemon to manage", word), "gobuild build needs no preparation")
		}
	}
	return invocation{name: "build", args: args}, nil
}

// resolveCompletion checks the shell, of which cobra would say nothing.
func resolveCompletion(args []string) (invocation, error) {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	usage := "gobuild completion " + strings.Join(shells, "|")
	if len(args) == 0 {
		return invocation{}, hint(usagef("gobuild completion takes a shell"), usage)
	}
	if !strings.HasPrefix(args[0], "-") && !slices.Contains(shells, args[0]) {
		return invocation{}, hint(usagef("there is no completion for %s", ui.Line(args[0])), usage)
	}
	return invocation{name: "completion", args: args}, nil
}

// resolveHelp checks the topic, which cobra would shrug at.
func resolveHelp(args []string) (invocation, error) {
	for _, arg := range args {
		if strings.HasPrefix(arg, "-") || arg == "completion" || arg == "help" {
			continue
		}
		inv, err := resolve([]string{arg})
		if err != nil {
			return inv, err
		}
		if inv.name == "build" && arg != "build" && arg != "bud" {
			e := usagef("unknown command gobuild %s", arg)
			if near := nearest(arg, commandNames()); near != "" {
				return inv, hint(e, "did you mean gobuild "+near+"?")
			}
			return inv, e
		}
	}
	return invocation{name: "help", args: args}, nil
}

// resolveGroup handles pasted command lines: buildx build, builder prune, cache du.
func resolveGroup(group string, before, after []string) (invocation, error) {
	i := firstWord(after)
	if i < 0 {
		return invocation{}, hint(usagef("gobuild %s: a command is missing", group), "use gobuild build")
	}
	sub, rest := after[i], append(append(append([]string(nil), before...), after[:i]...), after[i+1:]...)
	switch {
	case (sub == "build" || sub == "b") && group != "cache":
		return invocation{name: "build", args: rest}, nil
	case sub == "history" && group == "buildx":
		return invocation{name: sub, args: rest}, nil
	case sub == "du" || sub == "prune":
		return invocation{name: sub, args: rest}, nil
	case group == "cache" && slices.Contains(cacheCommands(), sub):
		return invocation{name: group, args: append([]string{sub}, rest...)}, nil
	case sub == "version" && group == "buildx":
		return invocation{name: sub, args: rest}, nil
	}
	for _, d := range daemonCommands() {
		if d == sub && group != "cache" {
			return invocation{}, hint(usagef("gobuild %s %s: there is no daemon to manage", group, sub), "gobuild build needs no preparation")
		}
	}
	if remedy, ok := missing()[sub]; ok {
		return invocation{}, hint(usagef("gobuild %s %s is not supported yet", group, sub), remedy)
	}
	e := usagef("unknown command gobuild %s %s", group, sub)
	known := []string{"build", "du", "prune"}
	if group == "cache" {
		known = append(known[1:], cacheCommands()...)
	}
	if near := nearest(sub, known); near != "" {
		return invocation{}, hint(e, "did you mean "+near+"?")
	}
	return invocation{}, e
}

// firstWord is the index of the first argument when only global flags stand
// before it, else -1: after any other flag it may be that flag's value.
func firstWord(args []string) int {
	takesValue := map[string]bool{}
	for _, g := range globalFlags() {
		takesValue["--"+g.name] = g.kind != kindBool
	}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" || arg == "-" {
			return -1
		}
		if !strings.HasPrefix(arg, "-") {
			return i
		}
		name, _, hasValue := strings.Cut(arg, "=")
		value, global := takesValue[name]
		if !global {
			return -1
		}
		if value && !hasValue {
			i++
		}
	}
	return -1
}

// execute finds the command and runs it.
func (a *app) execute(ctx context.Context, args []string) error {
	if len(args) == 1 {
		switch args[0] {
		case "--version":
			args = []string{"version"}
		case "-h", "--help":
			args = []string{"help"}
		}
	}
	inv, err := resolve(args)
	if err != nil {
		return err
	}
	root := a.root(inv)
	root.SetArgs(append([]string{inv.name}, inv.args...))
	return because(ctx, root.ExecuteContext(ctx))
}

// root is the cobra tree. Only the command that runs gets its flags; help and completion need them all.
func (a *app) root(inv invocation) *cobra.Command {
	root := &cobra.Command{
		Use:           "gobuild",
		Short:         "Build OCI images from Dockerfiles, without a daemon",
		Long:          "gobuild builds an OCI image from a Dockerfile and a context, without a daemon.\nWithout a command it builds: gobuild -t NAME .",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetIn(a.stdin)
	all := inv.name == "help" || inv.name == "completion" || strings.HasPrefix(inv.name, "__")
	groups := map[string]bool{}
	for _, c := range commands() {
		if all || c.name == inv.name {
			if !groups[c.group] {
				groups[c.group] = true
				root.AddGroup(&cobra.Group{ID: c.group, Title: c.group})
			}
			root.AddCommand(a.cobraCommand(c, inv.bud))
		}
	}
	return root
}

func (a *app) cobraCommand(c command, bud bool) *cobra.Command {
	f := flags{}
	cc := &cobra.Command{
		Use:                   strings.TrimSpace(c.name + " [flags] " + c.args),
		DisableFlagsInUseLine: true,
		GroupID:               c.group,
		Short:                 c.short,
		Long:                  c.long,
		Args:                  cobra.ArbitraryArgs, // each command words its own error
		RunE: func(cc *cobra.Command, args []string) error {
			if c.rights != nil {
				if done, err := a.intoNamespace(cc.Context(), c.rights(f)); done || err != nil {
					return err
				}
			}
			ctx, cancel, err := a.prepare(cc.Context(), c.name, f)
			defer cancel()
			if err != nil {
				return err
			}
			if c.group == "Registries" {
				a.named = args
			}
			return because(ctx, c.run(a, ctx, args))
		},
	}
	fs := cc.Flags()
	fs.SortFlags = false
	if c.flags != nil {
		table := c.flags()
		if bud {
			swapD(table)
		}
		f.register(fs, table)
	}
	f.register(fs, globalFlags())
	fs.SetInterspersed(!c.argsEndFlags)
	cc.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err, fs) })
	return cc
}

// swapD gives -D the meaning that it has for buildah.
func swapD(table []flagSpec) {
	for i := range table {
		switch table[i].name {
		case "debug":
			table[i].short = ""
		case "disable-compression":
			table[i].short = "D"
		}
	}
}

func isDirectory(path string) bool {
	_, err := directory(path)
	return err == nil
}

// noArgs is the check of commands that take no argument.
func noArgs(name string, args []string) error {
	if len(args) > 0 {
		return usagef("gobuild %s takes no argument, but there is %q", name, ui.Line(args[0]))
	}
	return nil
}

// oneImage is the check of commands about one image.
func oneImage(name string, args []string) error {
	if len(args) != 1 {
		return hint(usagef("gobuild %s takes one image, not %d", name, len(args)), "gobuild "+name+" IMAGE")
	}
	return nil
}
